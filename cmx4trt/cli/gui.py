"""``cmx4trt gui``: the web UI."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import NoReturn

from cmx4trt.base.values import absolute_path, parse_bool, parse_int
from cmx4trt.cli.output import print_table
from cmx4trt.errors import RequestError
from cmx4trt.gui.access import new_token
from cmx4trt.gui.server import (
    DEFAULT_ADDRESS,
    DEFAULT_PORT,
    LOOPBACK,
    check_installed,
    free_port,
    page_address,
    serve,
)

_INTERRUPTED = "the web UI is closed; unfinished runs were stopped"


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """The arguments of ``cmx4trt gui``."""
    parser.add_argument("--folder", default=".", help="working folder of the runs (default: the current one)")
    parser.add_argument(
        "--port",
        default=str(DEFAULT_PORT),
        help=f"port to listen on; 0 takes any free port (default: {DEFAULT_PORT})",
    )
    parser.add_argument(
        "--address",
        default=DEFAULT_ADDRESS,
        help=f"address to listen on (default: {DEFAULT_ADDRESS}, this machine only)",
    )
    _add_switch(parser, "no_browser", "do not open a browser")
    _add_switch(parser, "no_run", "show the command, without a button that runs it")
    parser.add_argument("--script", metavar="TAGS", help="tags of another CM script (default: this package's)")
    parser.add_argument("--title", default="", help="title of the page (default: the script's name)")
    parser.add_argument("--result", metavar="FILE", help="write an error to a JSON file instead of printing it")
    parser.set_defaults(interrupted=_INTERRUPTED)


def _add_switch(parser: argparse.ArgumentParser, name: str, help: str) -> None:
    """``--name``, ``--name=yes`` and ``--name=no``: the first is for the command line, the others for CM."""
    names = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
    parser.add_argument(*names, dest=name, nargs="?", const="yes", default="no", metavar="yes|no", help=help)


def run(arguments: argparse.Namespace, serve: Callable[..., NoReturn] = serve) -> int:
    """Serve until interrupted. Raises CmxError, KeyboardInterrupt."""
    from cmx4trt.gui.scripts import own_script, script_from_tags
    from cmx4trt.gui.settings import PageSettings

    port = parse_int("port", arguments.port, 0, 65535)
    may_run = not parse_bool("no_run", arguments.no_run)
    browser = not parse_bool("no_browser", arguments.no_browser)
    folder = absolute_path(arguments.folder)
    if not os.path.isdir(folder):
        raise RequestError(f"folder {folder} does not exist; give an existing one")
    check_installed()
    own = own_script()
    script = script_from_tags(arguments.script) if arguments.script else own
    address = (
        arguments.address or DEFAULT_ADDRESS
    )  # to the system, an empty address means all addresses of this machine
    port = free_port(address, port)
    settings = PageSettings(
        script=script.folder,
        tags=script.tags,
        variations=script.variations,
        folder=folder,
        own=os.path.realpath(script.folder) == own.folder,
        may_run=may_run,
        title=arguments.title,
    )
    token = new_token()
    rows = [("page", page_address(address, port, token)), ("script", script.folder), ("runs start in", folder)]
    if address not in LOOPBACK:
        rows.append(
            ("note", "the address crosses the network unencrypted: anyone with access runs builds as your user")
        )
    rows.append(("next", "open the web UI; its address contains a secret, do not share it"))
    print_table("cmx4trt gui (Ctrl-C ends it)", rows)
    serve(settings, address, port, token, browser)
