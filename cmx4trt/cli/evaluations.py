"""``cmx4trt verify`` and ``cmx4trt bench``, and the same after a build."""

from __future__ import annotations

import argparse
import atexit
import os
import sys
from typing import TYPE_CHECKING

from cmx4trt.base.damage import parse_json, reason, shortened
from cmx4trt.base.files import open_text
from cmx4trt.base.progress import Progress
from cmx4trt.base.values import parse_path
from cmx4trt.cli.arguments import add_option
from cmx4trt.cli.following import after_evaluation, print_next
from cmx4trt.cli.output import check_result, print_table, write_result
from cmx4trt.cli.rows import rows_of_evaluation
from cmx4trt.errors import EXIT_UNFORESEEN, RequestError
from cmx4trt.requests.evaluation_options import OPTIONS_OF, EvaluationOptions

if TYPE_CHECKING:
    from cmx4trt.pipeline.evaluation import Evaluation
    from cmx4trt.pipeline.published import EngineAtHand

INTERRUPTED = "interrupted; LoadGen's files so far are kept, marked as partial"


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """The arguments of ``cmx4trt verify`` and ``cmx4trt bench``."""
    parser.add_argument("engine", metavar="ENGINE", help="the engine file, or its manifest")
    for option in OPTIONS_OF[command]:
        add_option(parser, option)
    parser.add_argument("--result", metavar="FILE", help="write the outcome, error or success, to a JSON file")
    parser.set_defaults(interrupted=INTERRUPTED)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, and print the results. Raises CmxError."""
    from cmx4trt.cli.terminal import TerminalProgress
    from cmx4trt.pipeline.published import EngineAtHand

    command = arguments.command
    check_result(arguments.result)
    values = {option.name: getattr(arguments, option.name) for option in OPTIONS_OF[command]}
    engine = parse_path("engine", arguments.engine)
    options, progress = EvaluationOptions.from_values(values, command), TerminalProgress(sys.stderr)
    evaluation = evaluate(command, EngineAtHand(engine, progress), options, progress)
    arguments.outcome = {"exports": dict(evaluation.exports)}
    print_evaluation(command, engine, evaluation)
    if arguments.result:
        write_result(arguments.result, arguments.outcome)
    return 0


def print_evaluation(command: str, engine: str, evaluation: Evaluation) -> None:
    """Print an evaluation's rows and the next steps. Raises its error, if it has one."""
    print_table(f"cmx4trt {command}", rows_of_evaluation(evaluation))
    if evaluation.error is not None:
        raise evaluation.error
    print_next(after_evaluation(command, engine, evaluation))


def read_evaluations(path: str) -> dict[str, EvaluationOptions]:
    """The evaluations to run with a built engine: the options of each command. Raises RequestError.

    The file contains {"verify": {option: value, …}, "bench": {…}}, both optional.
    """
    try:
        with open_text(path) as stream:
            asked = parse_json(stream.read())
    except (OSError, ValueError) as error:
        raise RequestError(
            f"cannot read evaluation file {path} ({reason(error)}); give JSON of option values"
        ) from error
    if not isinstance(asked, dict) or not all(isinstance(values, dict) for values in asked.values()):
        raise RequestError(
            f"evaluation file {path} is not an object of objects, expected options below 'verify' and 'bench'"
        )
    for command in asked:
        if command not in OPTIONS_OF:
            raise RequestError(
                f"evaluation file {path} has '{shortened(command)}', expected {' and '.join(OPTIONS_OF)}"
            )
    try:
        return {c: EvaluationOptions.from_values(asked[c], c) for c in OPTIONS_OF if c in asked}
    except RequestError as error:
        raise RequestError(f"evaluation file {path}: {error}") from error


def evaluate(command: str, engine: EngineAtHand, options: EvaluationOptions, progress: Progress) -> Evaluation:
    """Run a command on ``engine``. Raises CmxError.

    A LoadGen that cannot be stopped would crash the interpreter at shutdown: then the process exits without it.
    """
    from cmx4trt.bench.loadgen import left_behind
    from cmx4trt.pipeline.evaluate import bench, verify
    from cmx4trt.report.automatic import refresh_report

    run = verify if command == "verify" else bench
    try:
        evaluation = run(engine, options, progress)
        refresh_report(engine.path, progress)
        return evaluation
    except Exception as error:
        if left_behind():
            atexit.register(os._exit, getattr(error, "exit_code", EXIT_UNFORESEEN))
        raise
