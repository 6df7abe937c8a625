"""Access to the page: for everyone who has its address, which contains a secret, and not from inside another page."""

from __future__ import annotations

import hmac
import os
import secrets
import tempfile
from collections.abc import Awaitable, Callable
from html import escape

from cmx4trt.gui.origin import App, Message

_TOKEN_BYTES = 32
"""Twice what secrets.token_urlsafe considers sufficient for a secret that anyone may try to guess."""
_HEADERS = (
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
"""No other page may embed this one in a frame (clickjacking), and no page it links to learns the secret."""
_REFUSAL = b"This address lacks the secret of the page: open the one that 'cmx4trt gui' printed.\n"


def new_token() -> str:
    """A secret for one run of the server, suitable for a URL."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


class OnlyWithToken:
    """ASGI middleware: every request outside the path ``/<token>/`` is rejected with status 403.

    The secret is part of the path rather than a cookie: browsers send the cookies of this machine to all of its ports, whoever
    listens there, but a path to nobody else. So it is in each URL of the page: its files, its WebSocket.
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
        """Pass on requests with the secret, and add the headers against frames to each response."""

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
        """Compared in constant time, so that the time does not reveal how much of a guess is right."""
        start, given, *_ = *path.split("/", 2), ""
        return start == "" and hmac.compare_digest(given.encode("utf-8", "surrogatepass"), self._token)


def leading_page(folder: str, address: str) -> str:
    """The URL of a file in the private ``folder`` that redirects a browser to ``address``.

    On a browser's command line, the secret itself would be visible to every user of this machine.
    """
    path = os.path.join(folder, "page.html")
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(f'<!DOCTYPE html><meta http-equiv="refresh" content="0; url={escape(address)}"><title>…</title>\n')
    return f"file://{path}"


def private_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder that only this user can read; it is deleted with the context."""
    return tempfile.TemporaryDirectory(prefix="cmx4trt-gui-", ignore_cleanup_errors=True)
