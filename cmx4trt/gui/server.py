"""Streamlit as the page's server, in this process: here its settings are made, and nothing is left to its questions."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from importlib.util import find_spec

from cmx4trt.errors import MissingSoftwareError, RequestError
from cmx4trt.gui.runner import RUNS
from cmx4trt.gui.settings import PageSettings

DEFAULT_ADDRESS = "127.0.0.1"
DEFAULT_PORT = 8501
"""Streamlit's own."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def check_installed() -> None:
    """Raises MissingSoftwareError where Streamlit, or CM, is missing."""
    import sys

    for module, install in (("streamlit", "cmx4trt[gui]"), ("cmind", "cmx4trt"), ("yaml", "cmx4trt")):
        if find_spec(module) is None:
            raise MissingSoftwareError(
                f"the page needs {module}, which is not installed for {sys.executable}; run: pip install '{install}'"
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


def serve(settings: PageSettings, address: str, port: int, browser: bool) -> None:
    """Serve the page until SIGINT, SIGTERM or the end of its terminal; then end every run it started."""
    from streamlit.web.cli import main

    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup ignores it
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    page = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page.py")
    flags = _flags(address, port, browser)
    try:
        with suppress(SystemExit):
            main(["run", page, *flags, "--", settings.to_json()], standalone_mode=False)
    finally:
        RUNS.stop_all()


def _flags(address: str, port: int, browser: bool) -> list[str]:
    """Flags win over a user's configuration of Streamlit. Protection against cross-site requests is its default."""
    options = {
        "server.address": address,
        "server.port": port,
        "server.fileWatcherType": "none",
        "server.runOnSave": "false",
        "server.showEmailPrompt": "false",
        "server.enableCORS": "true",
        "server.enableXsrfProtection": "true",
        "browser.gatherUsageStats": "false",
        "client.showErrorDetails": "none",
        "client.toolbarMode": "minimal",
        "logger.hideWelcomeMessage": "true",
        "runner.magicEnabled": "false",
        "theme.primaryColor": "#4a7c10",
        "theme.baseRadius": "small",
    }
    if not browser:
        options["server.headless"] = "true"
    flags = [f"--{name}={value}" for name, value in options.items()]
    if address in LOOPBACK:  # a foreign name that leads here is somebody else's page (DNS rebinding)
        flags += [f"--server.allowedHosts={host}" for host in LOOPBACK]
    return flags
