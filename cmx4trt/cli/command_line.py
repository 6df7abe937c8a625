"""``cmx4trt COMMAND``: parses arguments, and turns every error into a one-sentence message and an exit code.

Results go to standard output, progress and errors to standard error.
"""

from __future__ import annotations

import argparse
import atexit
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from types import FrameType
from typing import Any, NamedTuple, NoReturn

from cmx4trt import __version__
from cmx4trt.base.damage import printable
from cmx4trt.base.telemetry import switch_off
from cmx4trt.cli.output import drop_output, prepare_streams
from cmx4trt.errors import (
    EXIT_INTERRUPTED,
    EXIT_PIPE_CLOSED,
    EXIT_UNFORESEEN,
    OUT_OF_MEMORY,
    CmxError,
    DeviceError,
    OutputError,
    RequestError,
)

_PROGRAM = "cmx4trt"
_ANY_WIDTH = 100


def program() -> int:
    """The command ``cmx4trt``: ``main`` in a process of its own, which a build leaves without taking everything apart.

    That would take 25 ms. Whatever else ran in the process, such as LoadGen, may write its files while it is taken apart.
    """
    code, arguments = _run(None)
    if code == 0 and arguments is not None and arguments.command == "build" and arguments.evaluation is None:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (see cmx4trt.errors)."""
    return _run(argv)[0]


def _run(argv: Sequence[str] | None) -> tuple[int, argparse.Namespace | None]:
    """The exit code, and the arguments if they could be understood."""
    prepare_streams()
    switch_off()
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)  # under CM it is ignored at start, so that CM's shells survive to report
    arguments: argparse.Namespace | None = None
    try:
        words = sys.argv[1:] if argv is None else argv
        arguments, unknown = _parser(words).parse_known_args(words)
        if unknown:
            raise RequestError(_unknown_sentence(unknown, arguments.flags))
        code: int = arguments.run(arguments)
        return code, arguments
    except CmxError as error:
        return _fail(arguments, str(error), error.exit_code), arguments
    except MemoryError:
        return _fail(arguments, OUT_OF_MEMORY, DeviceError.exit_code), arguments
    except KeyboardInterrupt as stop:  # it has a message if something was left behind
        sentence = str(stop) or getattr(arguments, "interrupted", "interrupted; no engine was published")
        code = _fail(arguments, sentence, EXIT_INTERRUPTED)
        if threading.active_count() > 1:
            # A library that does not stop would crash the interpreter at shutdown.
            sys.stdout.flush()
            os._exit(code)
        return code, arguments
    except BrokenPipeError:
        # The reader of our output is gone (`cmx4trt inspect … | head`): there is nobody to tell.
        drop_output()
        return EXIT_PIPE_CLOSED, arguments
    except Exception as error:  # last resort: an unforeseen error is one sentence, too
        if os.environ.get("CMX4TRT_DEBUG"):
            raise
        where = f"{type(error).__name__}: {error}"
        return _fail(
            arguments, f"unforeseen error ({where}); set CMX4TRT_DEBUG=1 for the traceback", EXIT_UNFORESEEN
        ), arguments


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _fail(arguments: argparse.Namespace | None, sentence: str, code: int) -> int:
    sentence = printable(" ".join(sentence.split()))
    result = getattr(arguments, "result", None)
    if result:  # the program that requested the file tells the user
        with suppress(OutputError):
            from cmx4trt.cli.output import write_result

            outcome = getattr(arguments, "outcome", {})  # a negative verdict has figures, too
            write_result(result, {**outcome, "error": sentence, "exit_code": code})
            return code
    print(f"cmx4trt: error: {sentence}", file=sys.stderr, flush=True)
    return code


class _Parser(argparse.ArgumentParser):
    """Raises our error instead of printing the usage; suggests the closest flag."""

    def error(self, message: str) -> NoReturn:
        raise RequestError(f"{message}; see '{self.prog} --help'")


def _unknown_sentence(unknown: Sequence[str], flags: Sequence[str]) -> str:
    from difflib import get_close_matches

    flag = unknown[0].split("=")[0]
    close = get_close_matches(flag, flags, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else "; see --help for the available ones"
    return f"unknown argument '{flag}'{hint}"


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """All commands, or the one that ``words`` begin with; arguments only for those named, to import no more than necessary."""
    asks_for_help = any(word.startswith(("-h", "--h")) for word in words)
    parser = _Parser(
        prog=_PROGRAM,
        description="TensorRT engines of MLPerf Inference models, on any machine.",
        epilog=f"{_PROGRAM} COMMAND --help explains a command and shows examples.",
        formatter_class=_help_formatter if asks_for_help else _NoHelp,
    )
    parser.add_argument("--version", action="version", version=f"{_PROGRAM} {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", prog=_PROGRAM)
    first = next(iter(words), "")
    for name, command in _COMMANDS.items():
        if name != first and first in _COMMANDS:
            continue  # an ArgumentParser takes half a millisecond
        description = f"{command.help[0].upper()}{command.help[1:]}."
        sub = commands.add_parser(
            name,
            help=command.help,
            description=description,
            allow_abbrev=False,
            formatter_class=parser.formatter_class,
        )
        if name in words:
            module: Any = import_module(command.module)
            module.add_arguments(sub, name)
            sub.set_defaults(command=name, run=module.run, flags=list(sub._option_string_actions))
            if asks_for_help:
                from cmx4trt.cli.help import explain

                explain(sub, name)
    return parser


def _help_formatter(prog: str) -> argparse.HelpFormatter:
    from cmx4trt.cli.help import HelpFormatter

    return HelpFormatter(prog)


class _NoHelp(argparse.HelpFormatter):
    """For lines that ask for no help: argparse makes a formatter for each argument, and asks for the terminal's width in each."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_ANY_WIDTH)


class _Command(NamedTuple):
    help: str
    module: str
    """Has ``add_arguments(parser, command)`` and ``run(arguments)``; imported when the command is used."""


_COMMANDS = {
    "build": _Command("build an engine, or reuse an existing one", "cmx4trt.cli.build"),
    "inspect": _Command("show what an engine was built from and how it was verified", "cmx4trt.cli.inspect"),
    "verify": _Command("compare an engine with its original model; measure accuracy", "cmx4trt.cli.evaluations"),
    "bench": _Command("run MLPerf LoadGen with an engine or its graph", "cmx4trt.cli.evaluations"),
    "report": _Command("write a report on an engine, or a comparison of several", "cmx4trt.cli.report"),
    "prepare": _Command("write the graph that a builder is given, without building", "cmx4trt.cli.prepare"),
    "calibrate": _Command("calibrate a network for int8: write its tensor ranges", "cmx4trt.cli.calibrate"),
    "tune": _Command("measure which kernels are fastest on this GPU", "cmx4trt.cli.tune"),
    "sweep": _Command("build, verify and measure many engines from one file", "cmx4trt.cli.sweep"),
    "gui": _Command("open the web UI to configure, run and inspect builds", "cmx4trt.cli.gui"),
    "mlc-setup": _Command("make MLCFlow use this package's script, and check it", "cmx4trt.cli.mlc_setup"),
    "cm-setup": _Command("make CM use this package's script, and check it", "cmx4trt.cli.cm_setup"),
    "docker-setup": _Command("prepare what cm docker and mlc docker install in an image", "cmx4trt.cli.docker_setup"),
}
