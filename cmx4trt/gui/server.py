"""Streamlit as the page's server, in this process: sets all of its settings, so that it asks no questions."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.util import find_spec
from typing import Any, NoReturn

from cmx4trt.base.background import Background
from cmx4trt.base.install import pip_line
from cmx4trt.errors import MissingSoftwareError, RequestError
from cmx4trt.gui.access import OnlyWithToken, leading_page, private_folder
from cmx4trt.gui.closed_streams import drop_closed_streams
from cmx4trt.gui.origin import SameOrigin
from cmx4trt.gui.runner import RUNS
from cmx4trt.gui.settings import PageSettings

DEFAULT_ADDRESS = "127.0.0.1"
DEFAULT_PORT = 8501
"""Streamlit's default."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
"""Signals that end the page."""
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104
"""Addresses to listen on that no browser can open."""

_THEME = {
    "theme.baseRadius": "small",
    "theme.light.primaryColor": "#4a7c10",
    "theme.dark.primaryColor": "#508414",
}
"""One color per theme: with one for both, Streamlit shows its light theme to users who prefer the dark one. The green of the dark
theme has contrast 4.5 to the white of buttons and 4.0 to the background (WCAG 2.2 requires 4.5 for text, 3 for other parts)."""


def check_installed() -> None:
    """Raises MissingSoftwareError if Streamlit or CM is missing."""
    for module, extra in (("streamlit", "gui"), ("cmind", "cm"), ("yaml", "cm")):
        if find_spec(module) is None:
            raise MissingSoftwareError(
                f"the web UI needs {module}, which is not installed for {sys.executable}; run: {pip_line(extra)}"
            )


def free_port(address: str, port: int) -> int:
    """``port``, or a free one if it is 0. Raises RequestError if it is not possible to listen there."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen()
        except OSError as error:
            raise RequestError(
                f"cannot listen on port {port} of {address}: {error.strerror}; "
                "give another --port (0 takes any free port) or --address"
            ) from error
        return int(probe.getsockname()[1])


def page_address(address: str, port: int, token: str) -> str:
    """The URL for a browser on this machine."""
    host = "localhost" if address in _EVERYWHERE else f"[{address}]" if ":" in address else address
    return f"http://{host}:{port}/{token}/"


def serve(settings: PageSettings, address: str, port: int, token: str, browser: bool) -> NoReturn:
    """Serve the page to all who know ``token``, until SIGINT, SIGTERM, SIGQUIT or the end of the terminal; then stop its runs.

    Raises KeyboardInterrupt, because there is no other end; RequestError if the server does not start.
    """
    from starlette.middleware import Middleware
    from streamlit import App

    for number in (signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores the first
            signal.signal(number, lambda *_: signal.raise_signal(signal.SIGTERM))
    page = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page.py")
    sys.argv = [page, settings.to_json()]  # where the page finds them
    opening = _opened_in_browser(page_address(address, port, token)) if browser else None
    guards = [Middleware(OnlyWithToken, token=token), Middleware(SameOrigin)]
    try:
        # When the server has stopped, it re-raises the signal: here, for the handlers of the command line.
        App(page, middleware=guards, lifespan=opening).run(config=_options(address, port, token, browser))
    except SystemExit as error:
        raise RequestError(
            f"the web UI's server did not start on port {port} of {address}; see its output above"
        ) from error
    finally:
        for number in _ENDS:
            signal.signal(number, signal.SIG_IGN)  # a second signal would leave the runs behind
        drop_closed_streams()
        RUNS.stop_all()
    raise KeyboardInterrupt


def _opened_in_browser(url: str) -> Callable[[object], AbstractAsyncContextManager[None]]:
    """Called when the server begins to listen: opens the page, if there is a screen."""

    @asynccontextmanager
    async def opened(_: object) -> AsyncIterator[None]:
        import webbrowser

        import streamlit

        with private_folder() as folder:
            if not streamlit.get_option("server.headless"):
                leading = leading_page(folder, url)
                Background(lambda: webbrowser.open(leading))  # some browsers block their caller
            yield

    return opened


def _options(address: str, port: int, token: str, browser: bool) -> dict[str, Any]:
    """Streamlit's settings; they override the user's configuration."""
    options: dict[str, Any] = {
        "server.address": address,
        "server.port": port,
        "server.baseUrlPath": token,
        "server.fileWatcherType": "none",
        "server.runOnSave": False,
        "server.showEmailPrompt": False,
        "server.enableCORS": True,
        "server.enableXsrfProtection": True,
        "browser.gatherUsageStats": False,
        "client.showErrorDetails": "none",
        "client.toolbarMode": "minimal",
        "logger.hideWelcomeMessage": True,
        "runner.magicEnabled": False,
        **_THEME,
    }
    if not browser:
        options["server.headless"] = True
    if address in LOOPBACK:  # a foreign host name that resolves to this machine is somebody else's page (DNS rebinding)
        options["server.allowedHosts"] = list(LOOPBACK)
    return options
