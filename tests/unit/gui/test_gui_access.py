"""Who may see the page at all."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cmx4trt.gui.access import OnlyWithToken

TOKEN = "s3cr-et_"


def asked(path: str, kind: str = "http") -> tuple[bool, list[Any]]:
    """Whether what is asked for reaches the application, and what was sent."""
    reached: list[Any] = []
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope)
        await send({"type": f"{kind}.response.start", "status": 200, "headers": [(b"x-app", b"1")]})

    async def receive() -> Any:
        raise AssertionError("nothing is waited for")

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(OnlyWithToken(app, TOKEN)({"type": kind, "path": path, "headers": []}, receive, send))
    return bool(reached), sent


REFUSED = [
    "/",
    "",
    "/_stcore/stream",
    "/_stcore/health",
    f"//{TOKEN}/",
    f"/x/{TOKEN}/",
    f"{TOKEN}/",
    f"/{TOKEN[:-1]}/",
    f"/{TOKEN}x/_stcore/stream",
    f"/{TOKEN.upper()}/",
    f"/?token={TOKEN}",
    "/\udcff/",
    "/\N{SNOWMAN}/",
]


@pytest.mark.parametrize("path", REFUSED)
def test_without_the_secret_pages_and_files_are_refused(path: str) -> None:
    reached, sent = asked(path)
    assert not reached
    assert sent[0]["status"] == 403
    assert b"lacks the secret" in sent[1]["body"]


@pytest.mark.parametrize("path", REFUSED)
def test_without_the_secret_no_button_can_be_pressed(path: str) -> None:
    """The WebSocket is closed before it was accepted: status 403."""
    assert asked(path, "websocket") == (False, [{"type": "websocket.close"}])


@pytest.mark.parametrize("path", [f"/{TOKEN}", f"/{TOKEN}/", f"/{TOKEN}/_stcore/stream", f"/{TOKEN}/static/js/a.js"])
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_with_it_all_is_there(path: str, kind: str) -> None:
    assert asked(path, kind)[0]


@pytest.mark.parametrize("path", ["/", f"/{TOKEN}/"])
def test_no_page_of_somebody_else_holds_it_in_a_frame(path: str) -> None:
    headers = dict(asked(path)[1][0]["headers"])
    assert headers[b"content-security-policy"] == b"frame-ancestors 'none'"
    assert headers[b"x-frame-options"] == b"DENY"
    assert headers[b"referrer-policy"] == b"no-referrer"
