"""The command edge: parses arguments, prints, and turns every error into one sentence and an exit code.

The only module that prints or exits. Results go to standard output, progress and errors to standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any, NamedTuple, NoReturn

from cmx4trt import __version__
from cmx4trt.errors import EXIT_INTERRUPTED, EXIT_UNFORESEEN, CmxError, ModelError, OutputError, RequestError
from cmx4trt.options import OPTIONS, Option
from cmx4trt.request import BuildRequest


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (see cmx4trt.errors)."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)  # under CM it is ignored at start, so that CM's shells live on to report
    arguments: argparse.Namespace | None = None
    try:
        words = sys.argv[1:] if argv is None else argv
        arguments, unknown = _parser(words).parse_known_args(words)
        if unknown:
            raise RequestError(_unknown_sentence(unknown, arguments.flags))
        code: int = arguments.run(arguments)
        return code
    except CmxError as error:
        return _fail(arguments, str(error), error.exit_code)
    except KeyboardInterrupt:
        code = _fail(
            arguments, getattr(arguments, "interrupted", "interrupted; no engine was published"), EXIT_INTERRUPTED
        )
        if threading.active_count() > 1:
            # A library that does not stop would crash the interpreter on its way out.
            sys.stdout.flush()
            os._exit(code)
        return code
    except BrokenPipeError:
        # The reader of our output went away (`cmx4trt inspect … | head`): nothing is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # the border: whatever is unforeseen still gets one sentence
        if os.environ.get("CMX4TRT_DEBUG"):
            raise
        where = f"{type(error).__name__}: {error}"
        return _fail(arguments, f"unforeseen error ({where}); set CMX4TRT_DEBUG=1 for the traceback", EXIT_UNFORESEEN)


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _fail(arguments: argparse.Namespace | None, sentence: str, code: int) -> int:
    sentence = " ".join(sentence.split())
    result = getattr(arguments, "result", None)
    if result:  # whoever asked for the file tells the user
        with suppress(OutputError):
            _write_result(result, {"error": sentence, "exit_code": code})
            return code
    print(f"cmx4trt: error: {sentence}", file=sys.stderr, flush=True)
    return code


class _Parser(argparse.ArgumentParser):
    """Raises our error instead of printing a usage block; suggests the nearest flag."""

    def error(self, message: str) -> NoReturn:
        raise RequestError(f"{message}; see '{self.prog} --help'")


def _unknown_sentence(unknown: Sequence[str], flags: Sequence[str]) -> str:
    from difflib import get_close_matches

    flag = unknown[0].split("=")[0]
    close = get_close_matches(flag, flags, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else "; see --help for those there are"
    return f"there is no argument '{flag}'{hint}"


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """All commands; arguments only for those whose name is among the ``words``, to import no more than is asked for."""
    parser = _Parser(prog="cmx4trt", description="TensorRT engines of MLPerf Inference models, on any machine.")
    parser.add_argument("--version", action="version", version=f"cmx4trt {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, command in _COMMANDS.items():
        sub = commands.add_parser(
            name, help=command.help, description=f"{command.help[0].upper()}{command.help[1:]}.", allow_abbrev=False
        )
        if name in words:
            command.add_arguments(sub)
        sub.set_defaults(command=name, run=command.run, flags=list(sub._option_string_actions))
    return parser


def _add_build(parser: argparse.ArgumentParser) -> None:
    for option in OPTIONS:
        names = dict.fromkeys((f"--{option.name}", f"--{option.name.replace('_', '-')}"))
        parser.add_argument(*names, dest=option.name, metavar=_metavar(option), help=_help(option))
    parser.add_argument("--dry_run", "--dry-run", action="store_true", help="say what would be built, build nothing")
    parser.add_argument("--request", metavar="FILE", help="take the options from a JSON file (flags override it)")
    parser.add_argument(
        "--result", metavar="FILE", help="write the outcome to a JSON file; an error is then not printed"
    )


def _metavar(option: Option) -> str:
    return "{" + ",".join(option.choices) + "}" if option.choices else option.name.upper()


def _help(option: Option) -> str:
    default = "" if option.default is None else f" (default: {'yes' if option.default is True else option.default})"
    return f"{option.help}{default}".replace("%", "%%")


def _request(arguments: argparse.Namespace) -> BuildRequest:
    values: dict[str, Any] = {}
    if arguments.request:
        try:
            with open(arguments.request, encoding="utf-8") as stream:
                values = BuildRequest.values_from_json(stream.read())
        except OSError as error:
            raise RequestError(f"cannot read request file {arguments.request}: {error.strerror}") from error
    values.update({o.name: v for o in OPTIONS if (v := getattr(arguments, o.name)) is not None})
    return BuildRequest.from_values(values)


def _run_build(arguments: argparse.Namespace) -> int:
    from cmx4trt.pipeline import build, plan
    from cmx4trt.terminal import TerminalProgress

    request = _request(arguments)
    _print_table("cmx4trt build" + (" (dry run)" if arguments.dry_run else ""), request.summary())
    if arguments.dry_run:
        planned = plan(request, model_follows=arguments.request is not None)
        _print_table("would build" if not planned.reused else "already built", planned.rows())
        if arguments.result:
            _write_result(arguments.result, {"dry_run": True, "engine": planned.engine, "exports": {}})
        return 0
    result = build(request, TerminalProgress(sys.stderr))
    _print_table("reused" if result.reused else "built", result.rows())
    if arguments.result:
        _write_result(
            arguments.result,
            {"engine": result.engine, "manifest": result.manifest_path, "exports": result.exports()},
        )
    return 0


def _print_table(title: str, rows: Sequence[tuple[str, str]]) -> None:
    width = max((len(name) for name, _ in rows), default=0)
    lines = [title, *(f"  {name:<{width}}  {value}" for name, value in rows)]
    print("\n".join(lines), flush=True)


def _write_result(path: str, result: dict[str, Any]) -> None:
    from cmx4trt.files import write_atomic

    write_atomic(path, json.dumps(result, indent=2, ensure_ascii=False).encode("utf-8", "surrogateescape"))


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("engine", metavar="ENGINE", help="the engine file, or its manifest")
    parser.add_argument("--json", action="store_true", help="print the manifest as it is")


def _run_inspect(arguments: argparse.Namespace) -> int:
    from cmx4trt import store

    path = store.manifest_path_of(arguments.engine)
    try:
        manifest = store.read_manifest(path)
    except OSError as error:
        raise ModelError(f"cannot read manifest {path}: {error.strerror}; give an engine that cmx4trt built") from error
    except ValueError as error:
        raise ModelError(f"{path} is not a manifest of cmx4trt ({error}); give an engine that cmx4trt built") from error
    if arguments.json:
        print(manifest.to_json(), end="")
        return 0
    for title, part in manifest.sections():
        _print_table(title, [(name, _shown(value)) for name, value in part.items()])
    _print_table("engine file now", [("state", store.describe_engine(path, manifest))])
    return 0


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _run_cm_setup(arguments: argparse.Namespace) -> int:
    from cmx4trt.cm_setup import register

    _print_table("cm-setup", register())
    return 0


def _add_verify(parser: argparse.ArgumentParser) -> None:
    from cmx4trt.cli_bench import add_verify_arguments

    add_verify_arguments(parser)


def _add_bench(parser: argparse.ArgumentParser) -> None:
    from cmx4trt.cli_bench import add_bench_arguments

    add_bench_arguments(parser)


def _run_proof(arguments: argparse.Namespace) -> int:
    from cmx4trt import cli_bench
    from cmx4trt.terminal import TerminalProgress

    prove = cli_bench.run_verify if arguments.command == "verify" else cli_bench.run_bench
    proof = prove(arguments, TerminalProgress(sys.stderr))
    _print_table(f"cmx4trt {arguments.command}", proof.rows)
    if proof.error is not None:
        raise proof.error
    if arguments.result:
        _write_result(arguments.result, {"exports": dict(proof.exports)})
    return 0


def _add_calibrate(parser: argparse.ArgumentParser) -> None:
    from cmx4trt.cli_quantize import add_calibrate_arguments

    add_calibrate_arguments(parser)


def _run_calibrate(arguments: argparse.Namespace) -> int:
    from cmx4trt.cli_quantize import run_calibrate
    from cmx4trt.terminal import TerminalProgress

    for section in run_calibrate(arguments, TerminalProgress(sys.stderr)):
        _print_table(section.title, section.rows)
    return 0


class _Command(NamedTuple):
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


_COMMANDS = {
    "build": _Command("build an engine, or find the one already built", _add_build, _run_build),
    "inspect": _Command("show what an engine was made from, and how it was verified", _add_inspect, _run_inspect),
    "verify": _Command("check an engine against its original model and its accuracy", _add_verify, _run_proof),
    "bench": _Command("run MLPerf LoadGen over an engine, or over its graph", _add_bench, _run_proof),
    "calibrate": _Command("find the ranges of an int8 network, and write them down", _add_calibrate, _run_calibrate),
    "cm-setup": _Command("make CM run this package's script, and check that it does", lambda _: None, _run_cm_setup),
}
