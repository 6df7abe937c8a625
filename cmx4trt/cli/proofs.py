"""``cmx4trt verify`` and ``cmx4trt bench``, and the same after a build."""

from __future__ import annotations

import argparse
import atexit
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cmx4trt.cli.arguments import add_option
from cmx4trt.cli.following import after_proof, print_next
from cmx4trt.cli.output import check_result, print_table, write_result
from cmx4trt.damage import parse_json, reason, shortened
from cmx4trt.errors import EXIT_UNFORESEEN, RequestError
from cmx4trt.files import open_text
from cmx4trt.progress import Progress
from cmx4trt.proof_request import OPTIONS_OF, ProofRequest, parse_values
from cmx4trt.values import parse_path

if TYPE_CHECKING:
    from cmx4trt.proof import Proof

INTERRUPTED = "interrupted; what LoadGen had written by then is kept, marked as partial"


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """The arguments of ``cmx4trt verify`` and ``cmx4trt bench``."""
    parser.add_argument("engine", metavar="ENGINE", help="the engine file, or its manifest")
    for option in OPTIONS_OF[command]:
        add_option(parser, option)
    parser.add_argument("--result", metavar="FILE", help="write the outcome, error or success, to a JSON file")
    parser.set_defaults(interrupted=INTERRUPTED)


def run(arguments: argparse.Namespace) -> int:
    """Prove, and show what was found. Raises CmxError."""
    from cmx4trt.cli.terminal import TerminalProgress

    command = arguments.command
    check_result(arguments.result)
    values = {option.name: getattr(arguments, option.name) for option in OPTIONS_OF[command]}
    engine = parse_path("engine", arguments.engine)
    proof = prove(command, engine, parse_values(values, command), TerminalProgress(sys.stderr))
    arguments.outcome = {"exports": dict(proof.exports)}
    print_proof(command, engine, proof)
    if arguments.result:
        write_result(arguments.result, arguments.outcome)
    return 0


def print_proof(command: str, engine: str, proof: Proof) -> None:
    """Show a proof's rows, and what to do next. Raises its error, if it has one."""
    print_table(f"cmx4trt {command}", proof.rows)
    if proof.error is not None:
        raise proof.error
    print_next(after_proof(command, engine, proof))


def read_proofs(path: str) -> dict[str, dict[str, Any]]:
    """What is to be proved of a built engine: for each command the parsed values of its options. Raises RequestError.

    The file holds {"verify": {option: value, …}, "bench": {…}}, both optional.
    """
    try:
        with open_text(path) as stream:
            asked = parse_json(stream.read())
    except (OSError, ValueError) as error:
        raise RequestError(f"cannot read proof file {path} ({reason(error)}); give JSON of option values") from error
    if not isinstance(asked, dict) or not all(isinstance(values, dict) for values in asked.values()):
        raise RequestError(
            f"proof file {path} is not an object of objects, expected options below 'verify' and 'bench'"
        )
    for command in asked:
        if command not in OPTIONS_OF:
            raise RequestError(f"proof file {path} has '{shortened(command)}', expected {' and '.join(OPTIONS_OF)}")
    try:
        return {command: parse_values(asked[command], command) for command in OPTIONS_OF if command in asked}
    except RequestError as error:
        raise RequestError(f"proof file {path}: {error}") from error


def prove(command: str, engine: str, values: Mapping[str, Any], progress: Progress) -> Proof:
    """Run a command on ``engine`` with parsed values. Raises CmxError.

    A LoadGen that cannot be stopped would crash the interpreter's shutdown: then the process ends without it.
    """
    from cmx4trt.bench.loadgen import left_behind
    from cmx4trt.proof import bench_engine, verify_engine
    from cmx4trt.report.automatic import refresh_report

    run = verify_engine if command == "verify" else bench_engine
    try:
        proof = run(ProofRequest(engine=engine, **values), progress)
        refresh_report(engine, progress)
        return proof
    except Exception as error:
        if left_behind():
            atexit.register(os._exit, getattr(error, "exit_code", EXIT_UNFORESEEN))
        raise
