"""``cmx4trt build``: a request from flags or a file, the engine, and the evaluations to run with it."""

from __future__ import annotations

import argparse
import sys
from itertools import groupby
from typing import TYPE_CHECKING, Any

from cmx4trt.base.damage import parse_json, reason
from cmx4trt.base.files import open_text
from cmx4trt.cli.arguments import add_option
from cmx4trt.cli.following import after_build, after_dry_run, print_next
from cmx4trt.cli.output import check_result, print_table, write_result
from cmx4trt.cli.prepare import saving_path
from cmx4trt.cli.rows import rows_of_build, rows_of_plan
from cmx4trt.errors import RequestError
from cmx4trt.requests.build import BuildRequest
from cmx4trt.requests.options import build_options

if TYPE_CHECKING:
    from cmx4trt.base.progress import Progress
    from cmx4trt.pipeline.published import EngineAtHand
    from cmx4trt.requests.evaluation_options import EvaluationOptions


SAVE_GRAPH = "--save_graph"


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """The arguments of ``cmx4trt build``."""
    for title, options in groupby(build_options(), key=lambda option: option.group):
        group = parser.add_argument_group(title)
        for option in options:
            add_option(group, option)
    parser.add_argument(
        "--dry_run", "--dry-run", action="store_true", help="show what would be built without building it"
    )
    parser.add_argument("--new", action="store_true", help="build even if the same engine already exists")
    parser.add_argument(
        SAVE_GRAPH,
        "--save-graph",
        metavar="FILE",
        help="also write the graph that the builder is given, as an ONNX file",
    )
    parser.add_argument("--request", metavar="FILE", help="read options from a JSON file (flags override it)")
    parser.add_argument(
        "--evaluation", metavar="FILE", help="then run verify and bench, with the options of a JSON file"
    )
    parser.add_argument(
        "--result", metavar="FILE", help="write the outcome to a JSON file; an error is then not printed"
    )


def run(arguments: argparse.Namespace) -> int:
    """Build, print, and run the evaluations. Raises CmxError."""
    from cmx4trt.cli.terminal import TerminalProgress
    from cmx4trt.pipeline.build import build_with_graph
    from cmx4trt.pipeline.plan import plan

    request = _request(arguments)
    check_result(arguments.result)
    saved = saving_path(SAVE_GRAPH, arguments.save_graph)
    print_table("cmx4trt build" + (" (dry run)" if arguments.dry_run else ""), request.summary())
    evaluations = _read_evaluations(arguments.evaluation, request)
    if arguments.dry_run:
        planned = plan(request, model_follows=arguments.request is not None)
        print_table(planned.title, rows_of_plan(planned))
        print_next(after_dry_run())
        if arguments.result:
            write_result(arguments.result, {"dry_run": True, "engine": planned.engine, "exports": {}})
        return 0
    progress = TerminalProgress(sys.stderr)
    result, graph = build_with_graph(request, progress, new=arguments.new)
    print_table("reused" if result.reused else "built", rows_of_build(result))
    if saved is not None:
        from cmx4trt.pipeline.saved import graph_of, save_graph

        save_graph(graph.prepared.graph if graph is not None else graph_of(request, progress), saved, SAVE_GRAPH)
    if not evaluations:
        print_next(after_build(result.engine, result.manifest))
    outcome = {"engine": result.engine, "manifest": result.manifest_path, "exports": result.exports()}
    arguments.outcome = {**outcome, "result_exports": {}}
    if evaluations:
        from cmx4trt.pipeline.published import EngineAtHand

        _run_evaluations(evaluations, EngineAtHand(result.engine, progress, graph), arguments, progress)
    if arguments.result:
        write_result(arguments.result, arguments.outcome)
    return 0


def _request(arguments: argparse.Namespace) -> BuildRequest:
    values: dict[str, Any] = {}
    if arguments.request:
        values = _read_request(arguments.request)
    values.update({o.name: v for o in build_options() if (v := getattr(arguments, o.name)) is not None})
    return BuildRequest.from_values(values)


def _read_request(path: str) -> dict[str, Any]:
    """The option values of a request file, validated here so that errors name the file. Raises RequestError."""
    try:
        with open_text(path) as stream:
            values = BuildRequest.values_from_dict(parse_json(stream.read()))
        for option in build_options():
            option.value_of(values.get(option.name))
    except RequestError as error:
        raise RequestError(f"request file {path}: {error}") from error
    except (OSError, ValueError) as error:
        raise RequestError(f"cannot read request file {path}: {reason(error)}; give JSON of option values") from error
    return values


def _read_evaluations(path: str | None, request: BuildRequest) -> dict[str, EvaluationOptions]:
    """The evaluations to run with the engine; impossible ones are rejected before it is built. Raises CmxError."""
    if path is None:
        return {}
    from cmx4trt.cli.evaluations import read_evaluations
    from cmx4trt.pipeline.data import check_data
    from cmx4trt.pipeline.evaluate import check_evaluation

    evaluations = read_evaluations(path)
    for command, options in evaluations.items():
        check_evaluation(command, options, request)
        check_data(command, options, request)
    return evaluations


def _run_evaluations(
    evaluations: dict[str, EvaluationOptions],
    engine: EngineAtHand,
    arguments: argparse.Namespace,
    progress: Progress,
) -> None:
    """Print the results of each evaluation of the built engine, and keep its exports. Raises CmxError."""
    from cmx4trt.cli.evaluations import INTERRUPTED, evaluate, print_evaluation

    arguments.interrupted = f"the engine has been published; {INTERRUPTED}"
    for command, options in evaluations.items():
        evaluation = evaluate(command, engine, options, progress)
        arguments.outcome["result_exports"] |= evaluation.exports
        print_evaluation(command, engine.path, evaluation)
