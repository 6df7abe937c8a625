"""Who may open the page's WebSocket."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cmx4trt.gui.origin import SameOrigin


def opened(kind: str = "websocket", **headers: str) -> bool:
    """Whether a connection with these headers reaches the application; a refused one must be closed, with no word before."""
    reached: list[Any] = []
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope)

    async def receive() -> Any:
        raise AssertionError("nothing is waited for")

    async def send(message: Any) -> None:
        sent.append(message)

    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    asyncio.run(SameOrigin(app)({"type": kind, "headers": pairs}, receive, send))
    assert sent == ([] if reached else [{"type": "websocket.close"}])
    return bool(reached)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1:8501", "127.0.0.1:8501"),
        ("http://localhost:9000", "localhost:9000"),  # a port that ssh forwards
        ("http://LOCALHOST:9000", "localhost:9000"),
        ("http://[::1]:8501", "[::1]:8501"),
        ("https://engines.example", "engines.example"),
    ],
)
def test_the_pages_own(origin: str, host: str) -> None:
    assert opened(origin=origin, host=host)


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost:9999",
        "http://127.0.0.1:9999",
        "http://localhost:8501",  # another name is another origin
        "http://127.0.0.1",
        "http://evil.example",
        "http://evil.example#127.0.0.1:8501",
        "http://127.0.0.1:8501@evil.example",
        "http://[::1",
        "null",
        "",
        "\xff",
    ],
)
def test_somebody_elses(origin: str) -> None:
    assert not opened(origin=origin, host="127.0.0.1:8501")


def test_origin_without_host() -> None:
    assert not opened(origin="null")
    assert not opened(origin="http://", host="")


def test_programs_need_not_say_where_they_come_from() -> None:
    assert opened(host="127.0.0.1:8501")


def test_the_page_itself_is_shown_to_everybody() -> None:
    """A link on another page may lead to it."""
    assert opened("http", origin="http://evil.example", host="127.0.0.1:8501")
