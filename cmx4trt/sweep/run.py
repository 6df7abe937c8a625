"""From a sweep file to its page: the order of the steps and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from cmx4trt.base.files import check_writable, encode_json, make_folder, write_atomic
from cmx4trt.errors import CellsFailedError, CmxError
from cmx4trt.pipeline.plan import plan
from cmx4trt.report.writing import write_page
from cmx4trt.sweep.cells import Cell, cells_of_file
from cmx4trt.sweep.driver import Driver, Runner, Watcher
from cmx4trt.sweep.file import RAY, SLURM, SweepFile, read_sweep
from cmx4trt.sweep.page import page_of_sweep
from cmx4trt.sweep.results import UNFINISHED, Row, exports_of_rows, failures, rows_of_cells, rows_to_csv, rows_to_json
from cmx4trt.sweep.status import FAILED, SETTING, STATUS_NAME, open_status, read_records
from cmx4trt.sweep.tasks import Task, tasks_of_cells

PAGE_NAME, CSV_NAME, JSON_NAME = "index.html", "cells.csv", "cells.json"
_MARK = ".cmx4trt-sweep-"


@dataclass(frozen=True, slots=True)
class SweepRequest:
    """What is asked of a sweep; paths absolute, None for what the file says."""

    file: str
    on: str | None = None
    address: str | None = None
    state: str | None = None
    store: str | None = None


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep that is ready to run: the file's cells, checked, and where their outcome is kept."""

    file: SweepFile
    cells: list[Cell]
    state: str

    def tasks(self) -> list[Task]:
        """What there is to do."""
        return list(tasks_of_cells(self.cells, self.file.tasks))

    def rows(self) -> list[Row]:
        """What became of the cells so far. Raises OutputError."""
        return rows_of_cells(self.cells, read_records(os.path.join(self.state, STATUS_NAME)))


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What a sweep has found: a row for each cell; paths of page and tables; ``error``: where cells failed."""

    rows: list[Row]
    page: str
    error: CmxError | None

    def exports(self) -> dict[str, str]:
        """For the next script."""
        return exports_of_rows(self.rows, self.page)


def open_sweep(request: SweepRequest) -> Sweep:
    """Read and check everything, run nothing. Raises CmxError."""
    file = read_sweep(request.file)
    if request.store is not None:
        file = replace(file, store=request.store)
    check_writable(file.store)
    state = request.state or f"{os.path.splitext(file.path)[0]}.sweep"
    return Sweep(file, cells_of_file(file), state)


def plan_rows(sweep: Sweep) -> Iterator[tuple[str, str, str]]:
    """(cell, what would be done, where) for each cell, as a dry run shows it."""
    records = read_records(os.path.join(sweep.state, STATUS_NAME))
    planned: dict[str, str] = {}
    measured = {key for key, record in records.items() if record.state != FAILED}
    for cell in sweep.cells:
        again = cell.build in planned
        if not again:
            planned[cell.build] = _engine_state(cell)
        measure = "" if not cell.measure else "measured" if cell.measure in measured else "measure"
        measured.add(cell.measure)
        built = "same engine as above" if again else planned[cell.build]
        yield cell.name, ", ".join(filter(None, (built, measure))), cell.build_gpu or cell.gpu or "any machine"


def _engine_state(cell: Cell) -> str:
    """Whether the engine is there; one that depends on a node's GPU is known there only."""
    if cell.build_gpu is not None:
        return f"build, or reuse, on {cell.build_gpu}"
    try:
        return "built" if plan(cell.request).reused else "build"
    except CmxError as error:
        return f"refused: {error}"


NewRunner = Callable[[Sweep, SweepRequest, str], Runner]
"""Makes what runs the tasks; the last argument is a file in the store by which nodes recognize it."""


def run_sweep(
    sweep: Sweep, request: SweepRequest, watcher: Watcher, new_runner: NewRunner | None = None
) -> SweepResult:
    """Run what is not finished, and write the page. Raises CmxError; failed cells are in the result.

    ``new_runner``: where the tasks run; by default, where the request says.
    """
    with open_status(sweep.state) as status, _token(sweep.file.store, sweep.state) as token:
        tasks = sweep.tasks()
        if any(not status.finished(task.key) for task in tasks):
            runner = (new_runner or runner_of)(sweep, request, token)
            Driver(tasks, runner, status, sweep.file.tasks["retries"], watcher).run()
        rows = rows_of_cells(sweep.cells, status.records)
    return SweepResult(rows, write_outcome(sweep, rows, watcher.note), _error(rows))


def write_outcome(sweep: Sweep, rows: Sequence[Row], note: Callable[[str], None]) -> str:
    """Page, CSV and JSON in the state's folder; the page's path. Raises OutputError."""
    make_folder(sweep.state, SETTING)
    page = os.path.join(sweep.state, PAGE_NAME)
    title = os.path.splitext(os.path.basename(sweep.file.path))[0]
    write_page(page, page_of_sweep(title, rows, sweep.state, note))
    write_atomic(os.path.join(sweep.state, CSV_NAME), rows_to_csv(rows).encode("utf-8", "replace"), SETTING)
    text = json.dumps(rows_to_json(rows), indent=1, ensure_ascii=False)
    write_atomic(os.path.join(sweep.state, JSON_NAME), encode_json(text), SETTING)
    return page


def runner_of(sweep: Sweep, request: SweepRequest, token: str) -> Runner:
    """The runner that the request or the file names. Raises CmxError where it cannot be used here."""
    store, on = sweep.file.store, request.on or sweep.file.place["run_on"]
    if on == RAY:
        from cmx4trt.sweep.on_ray import RayRunner

        return RayRunner(store, token, request.address or sweep.file.place["address"])
    if on == SLURM:
        from cmx4trt.sweep.on_slurm import SlurmRunner

        return SlurmRunner(store, token, os.path.join(sweep.state, "submitit"), sweep.file.slurm, sweep.file.gpus)
    from cmx4trt.sweep.on_processes import ProcessRunner

    return ProcessRunner(store, token)


@contextmanager
def _token(store: str, state: str) -> Iterator[str]:
    """A file in the store by which nodes see whether a folder of this name is the caller's own: no other sweep has its name.

    After a kill it stays, for jobs that go on, until the sweep is run again.
    """
    make_folder(store)
    name = _MARK + hashlib.sha256(f"{socket.gethostname()}:{state}".encode()).hexdigest()[:16]
    path = os.path.join(store, name)
    write_atomic(path, b"")
    try:
        yield name
    finally:
        with suppress(OSError):
            os.unlink(path)


def _error(rows: Sequence[Row]) -> CmxError | None:
    failed, unfinished = len(failures(rows)), sum(row.state == UNFINISHED for row in rows)
    if not failed and not unfinished:
        return None
    return CellsFailedError(
        f"{failed + unfinished} of {len(rows)} cells failed or are INVALID (see the table); run the same command again to retry "
        "the failed ones"
    )
