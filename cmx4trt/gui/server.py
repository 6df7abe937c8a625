"""Streamlit as the page's server, in this process: here its settings are made, and nothing is left to its questions."""

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
"""Streamlit's own."""
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
"""A colour for each: with one for both, Streamlit shows its light theme to those who prefer a dark one. The green of the dark
theme has contrast 4.5 to the white of buttons and 4.0 to the background (WCAG 2.2 asks 4.5 of words and 3 of other parts)."""


def check_installed() -> None:
    """Raises MissingSoftwareError where Streamlit, or CM, is missing."""
    for module, extra in (("streamlit", "gui"), ("cmind", "cm"), ("yaml", "cm")):
        if find_spec(module) is None:
            raise MissingSoftwareError(
                f"the page needs {module}, which is not installed for {sys.executable}; run: {pip_line(extra)}"
            )


def free_port(address: str, port: int) -> int:
    """``port``, or one that is free where it is 0. Raises RequestError where nobody can listen there."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen()
        except OSError as error:
            raise RequestError(
                f"cannot listen on port {port} of {address}: {error.strerror}; "
                "give another --port (0 takes any that is free) or --address"
            ) from error
        return int(probe.getsockname()[1])


def page_address(address: str, port: int, token: str) -> str:
    """What a browser on this machine opens."""
    host = "localhost" if address in _EVERYWHERE else f"[{address}]" if ":" in address else address
    return f"http://{host}:{port}/{token}/"


def serve(settings: PageSettings, address: str, port: int, token: str, browser: bool) -> NoReturn:
    """Serve the page to those who know ``token``, until SIGINT, SIGTERM, SIGQUIT or the end of its terminal; then end its runs.

    Raises KeyboardInterrupt, for there is no other end; RequestError where the server does not start.
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
        # Its server gives a signal back when it has stopped: here, to the handlers of the command line.
        App(page, middleware=guards, lifespan=opening).run(config=_options(address, port, token, browser))
    except SystemExit as error:
        raise RequestError(
            f"the page's server did not start on port {port} of {address}; see its output above"
        ) from error
    finally:
        for number in _ENDS:
            signal.signal(number, signal.SIG_IGN)  # a second one would leave the runs behind
        drop_closed_streams()
        RUNS.stop_all()
    raise KeyboardInterrupt


def _opened_in_browser(url: str) -> Callable[[object], AbstractAsyncContextManager[None]]:
    """What the server does when it begins to listen: show the page to the user, where there is a screen."""

    @asynccontextmanager
    async def opened(_: object) -> AsyncIterator[None]:
        import webbrowser

        import streamlit

        with private_folder() as folder:
            if not streamlit.get_option("server.headless"):
                leading = leading_page(folder, url)
                Background(lambda: webbrowser.open(leading))  # some browsers let their caller wait
            yield

    return opened


def _options(address: str, port: int, token: str, browser: bool) -> dict[str, Any]:
    """Streamlit's settings; they win over a user's configuration of it."""
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
    if address in LOOPBACK:  # a foreign name that leads here is somebody else's page (DNS rebinding)
        options["server.allowedHosts"] = list(LOOPBACK)
    return options
