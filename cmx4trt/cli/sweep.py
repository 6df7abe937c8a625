"""``cmx4trt sweep``: many engines from one file, and ``cmx4trt sweep init``, which writes one."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from cmx4trt.base.values import parse_path
from cmx4trt.cli.output import check_result, print_table, write_result
from cmx4trt.cli.sweep_table import table_for
from cmx4trt.errors import OutputError, RequestError
from cmx4trt.sweep.file import PLACES, RAY
from cmx4trt.sweep.results import Row, best_rows, failures
from cmx4trt.sweep.run import CSV_NAME, Sweep, SweepRequest, SweepResult, open_sweep
from cmx4trt.sweep.status import STATUS_NAME

INIT = "init"
DEFAULT_FILE = "sweep.yaml"
_SHOWN_CELLS = 200
"""Number of cells shown by a dry run; the rest is counted."""


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """The arguments of ``cmx4trt sweep``."""
    parser.add_argument("file", metavar="FILE", help="the sweep file; 'init' writes an example")
    parser.add_argument(
        "new_file", metavar="NEW_FILE", nargs="?", help=f"after 'init': name of the new file (default: {DEFAULT_FILE})"
    )
    parser.add_argument(
        "--on",
        choices=PLACES,
        help="where tasks run: this machine, a Ray cluster, Slurm (default: run_on in the file, or local)",
    )
    parser.add_argument(
        "--address", metavar="ADDRESS", help="ray: address of the cluster (default: Ray on this machine)"
    )
    parser.add_argument(
        "--dry_run", "--dry-run", action="store_true", help="show the cells, what exists, and what would run where"
    )
    parser.add_argument(
        "--state",
        metavar="FOLDER",
        help="folder for the status file and the page (default: the file's name with .sweep)",
    )
    parser.add_argument(
        "--output_dir", "--output-dir", metavar="FOLDER", help="folder for the engines (default: store in the file)"
    )
    parser.add_argument(
        "--result", metavar="FILE", help="write the outcome to a JSON file; an error is then not printed"
    )
    parser.set_defaults(interrupted="interrupted; finished tasks are kept, and the same command will resume the sweep")


def run(arguments: argparse.Namespace) -> int:
    """Run the sweep, and print the best results and the failures. Raises CmxError."""
    if arguments.file == INIT:
        return _init(arguments.new_file or DEFAULT_FILE)
    request = _request(arguments)
    check_result(arguments.result)
    sweep = open_sweep(request)
    if arguments.dry_run:
        return _show_plan(sweep, arguments.result)
    result = _run(sweep, request)
    _show(sweep, result)
    arguments.outcome = {"exports": {}, "sweep_exports": result.exports()}
    if result.error is not None:
        raise result.error
    if arguments.result:
        write_result(arguments.result, arguments.outcome)
    return 0


def _request(arguments: argparse.Namespace) -> SweepRequest:
    """The request from the arguments. Raises RequestError."""
    if arguments.new_file is not None:
        raise RequestError(f"unexpected second file '{arguments.new_file}'; give one sweep file")
    if arguments.address is not None and arguments.on not in (None, RAY):
        raise RequestError(f"--address is for --on=ray, not {arguments.on}; omit it")
    given = {
        name: None if value is None else parse_path(name, value)
        for name, value in (("state", arguments.state), ("store", arguments.output_dir))
    }
    return SweepRequest(parse_path("file", arguments.file), arguments.on, arguments.address, **given)


def _init(path: str) -> int:
    """Write the example to a new file. Raises OutputError."""
    from cmx4trt.base.files import check_file, write_atomic
    from cmx4trt.sweep.example import EXAMPLE

    path = parse_path("file", path)
    check_file(path, "NEW_FILE")
    if os.path.lexists(path):
        raise OutputError(f"{path} already exists; give another name: cmx4trt sweep init NEW_FILE")
    write_atomic(path, EXAMPLE.encode(), "NEW_FILE")
    print_table(
        "written", [("sweep file", path), ("preview it with", f"cmx4trt sweep {os.path.relpath(path)} --dry_run")]
    )
    return 0


def _run(sweep: Sweep, request: SweepRequest) -> SweepResult:
    from cmx4trt.sweep.run import run_sweep

    table = table_for(sys.stderr)
    try:
        return run_sweep(sweep, request, table)
    finally:
        table.close()


def _show_plan(sweep: Sweep, result: str | None) -> int:
    from cmx4trt.sweep.cells import equal_cells
    from cmx4trt.sweep.run import plan_rows

    tasks = sweep.tasks()
    rows = [(name, f"{done} on {where}") for name, done, where in plan_rows(sweep)]
    print_table("cells", [*rows[:_SHOWN_CELLS], *_rest(rows)])
    builds = sum(not task.after for task in tasks)
    summary = [
        ("cells", f"{len(sweep.cells)}, {equal_cells(sweep.cells)} of them equal to others"),
        ("tasks", f"{builds} builds, {len(tasks) - builds} measurements"),
        ("store", sweep.file.store),
        ("state", sweep.state),
    ]
    print_table("would run", summary)
    if result:
        write_result(result, {"dry_run": True, "exports": {}})
    return 0


def _rest(rows: Sequence[object]) -> list[tuple[str, str]]:
    return [("…", f"and {len(rows) - _SHOWN_CELLS} more")] if len(rows) > _SHOWN_CELLS else []


def _show(sweep: Sweep, result: SweepResult) -> None:
    if failed := failures(result.rows):
        print_table("failed or INVALID", [(row.cell, row.error) for row in failed])
    best = [(f"{scenario}, {network}", _words(row)) for (network, scenario, _), row in best_rows(result.rows).items()]
    if best:
        print_table("best of each scenario", best)
    table, status = (os.path.join(sweep.state, name) for name in (CSV_NAME, STATUS_NAME))
    cells = str(len(result.rows))
    print_table("sweep", [("cells", cells), ("page", result.page), ("table", table), ("status", status)])


def _words(row: Row) -> str:
    ran = row.ran_on if row.engine_ran else f"{row.ran_on}, the engine's graph"
    return f"{row.label}: {row.samples_per_second:,.6g} samples/s, {row.latency_ms:,.4g} ms ({ran})"
