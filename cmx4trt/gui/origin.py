"""Which pages may open the WebSocket through which buttons work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


class SameOrigin:
    """ASGI middleware: a WebSocket requested by a page of another host or port is rejected (with status 403).

    Streamlit's own check treats all ports of this machine as the same, and asks a server on the Internet for this
    machine's address before it rejects the rest.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Pass on everything that is not rejected."""
        if scope["type"] == "websocket" and not _is_same(scope):
            await send({"type": "websocket.close"})
            return
        await self._app(scope, receive, send)


def _is_same(scope: Message) -> bool:
    """Whether host and port of ``Origin`` match the request; every browser sends the header, other programs need not."""
    headers: dict[bytes, str] = {name.lower(): value.decode("latin-1").lower() for name, value in scope["headers"]}
    if b"origin" not in headers:
        return True
    try:
        return urlsplit(headers[b"origin"]).netloc == headers.get(b"host") != ""
    except ValueError:
        return False
