"""Who may see the page: whoever has its address, which holds a secret, and no page of somebody else around it."""

from __future__ import annotations

import hmac
import os
import secrets
import tempfile
from collections.abc import Awaitable, Callable
from html import escape

from cmx4trt.gui.origin import App, Message

_TOKEN_BYTES = 32
"""Twice what secrets.token_urlsafe would call enough for a secret that anyone may guess at."""
_HEADERS = (
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
"""No other page may hold this one in a frame and have its buttons pressed unseen, and none it links to learns the secret."""
_REFUSAL = b"This address lacks the secret of the page: open the one that 'cmx4trt gui' printed.\n"


def new_token() -> str:
    """A secret for one run of the server, fit for an address."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


class OnlyWithToken:
    """ASGI middleware: whatever is asked for outside the path ``/<token>/`` is refused with status 403.

    The secret is part of the path and no cookie: browsers send the cookies of this machine to every port of it, whoever
    listens there, and a path to nobody else. So it is in each address of the page: its files, its WebSocket.
    """

    def __init__(self, app: App, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Pass on what has the secret, and give each answer the headers against frames."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
            await send(message)

        if scope["type"] not in ("http", "websocket") or self._has_token(str(scope["path"])):
            await self._app(scope, receive, send_guarded)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(_REFUSAL))]
            await send_guarded({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": _REFUSAL})

    def _has_token(self, path: str) -> bool:
        """Compared in a time that does not tell how much of a guess is right."""
        start, given, *_ = *path.split("/", 2), ""
        return start == "" and hmac.compare_digest(given.encode("utf-8", "surrogatepass"), self._token)


def leading_page(folder: str, address: str) -> str:
    """The address of a file in the private ``folder`` that leads a browser to ``address``.

    On a browser's command line the secret itself would be shown to every user of this machine.
    """
    path = os.path.join(folder, "page.html")
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(f'<!DOCTYPE html><meta http-equiv="refresh" content="0; url={escape(address)}"><title>…</title>\n')
    return f"file://{path}"


def private_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder that only this user can look into; it goes with the context."""
    return tempfile.TemporaryDirectory(prefix="cmx4trt-gui-", ignore_cleanup_errors=True)
