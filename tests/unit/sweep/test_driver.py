"""Tasks through a runner: order, retries, failures, what a killed sweep leaves, and the outcome."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cmx4trt.errors import CellsFailedError, OutputError
from cmx4trt.store.results import COMPLETE, BenchResult, Metric
from cmx4trt.sweep.run import Sweep, SweepRequest, run_sweep
from cmx4trt.sweep.status import TaskRecord
from cmx4trt.sweep.tasks import BUILD, MEASURE, Carried, Outcome, Task

SweepOf = Callable[[str], Sweep]
Answer = Callable[[Task, int], "Outcome | None"]
TEXT = "defaults: {random_weights: 0}\nmatrix:\n  batch_size: [1, 2]\n  bench.scenario: [Offline, SingleStream]\n"


class FakeRunner:
    """Answers at once as ``answer`` says, else with success; remembers the order."""

    title = "a fake"

    def __init__(self, folder: Path, answer: Answer) -> None:
        self._folder = folder
        self._answer = answer
        self._given: list[Task] = []
        self.order: list[str] = []
        self.closed = False

    def room(self) -> int:
        return 3 - len(self._given)

    def submit(self, tasks: Sequence[tuple[Task, Sequence[Carried]]]) -> None:
        self._given += [task for task, _ in tasks]

    def wait(self, seconds: float) -> list[Outcome]:
        if not self._given:
            return []
        task = self._given.pop(0)
        self.order.append(task.key)
        return [self._answer(task, self.order.count(task.key)) or self._success(task)]

    def impossible(self, task: Task) -> str:
        return "there is no sm89 here" if task.needs.gpu == "sm89" else ""

    def close(self) -> None:
        self.closed = True

    def _success(self, task: Task) -> Outcome:
        if task.kind == BUILD:
            engine = self._folder / f"{task.key}.plan"
            engine.touch()
            return Outcome(task.key, engine=str(engine), host="fake")
        one_by_one = task.evaluations["bench"].get("scenario") == "SingleStream"
        metric = Metric("n", 4e6, "ns") if one_by_one else Metric("n", 50.0, "samples/s")
        executed = "the engine itself, by X on NVIDIA L4"
        found = BenchResult(
            executed, COMPLETE, "", "performance", "", metric=metric, valid=True, settings={"much": "more"}
        )
        return Outcome(task.key, engine=task.engine, results={"performance": found})


class Notes:
    """A watcher."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.counts = (0, 0)

    def planned(self, tasks: int, finished: int) -> None:
        self.counts = tasks, finished

    def ended(self, task: Task, record: TaskRecord) -> None:
        self.notes.append(f"{task.kind} {record.state}")

    def going(self, running: Iterable[Task], waiting: int) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Any]:
    """(result, runner, watcher) of a sweep on a fake runner."""

    def run(sweep: Sweep, answer: Answer = lambda task, attempt: None) -> Any:
        runner, notes = FakeRunner(tmp_path, answer), Notes()
        try:
            result = run_sweep(sweep, SweepRequest(sweep.file.path), notes, lambda *_: runner)
        finally:
            assert runner.closed or not runner.order
        return result, runner, notes

    return run


def test_builds_come_first_and_nothing_twice(sweep_of: SweepOf, run: Callable[..., Any], tmp_path: Path) -> None:
    sweep = sweep_of(TEXT)
    result, runner, notes = run(sweep)
    assert len(runner.order) == len(set(runner.order)) == 6
    for cell in sweep.cells:
        assert runner.order.index(cell.build) < runner.order.index(cell.measure)
    assert result.error is None
    assert notes.counts == (6, 0)
    assert {(row.state, row.ran_on, row.engine_ran) for row in result.rows} == {("done", "NVIDIA L4", True)}
    assert [row.samples_per_second for row in result.rows] == [50.0, 250.0, 50.0, 250.0]
    assert [row.latency_ms for row in result.rows] == [None, 4.0, None, 4.0]
    status = (tmp_path / "s.sweep" / "status.jsonl").read_text().splitlines()
    assert len(status) == 6
    assert "much" not in status[-1]
    assert result.exports()["BEST_OFFLINE_WITH_PATH"] == result.rows[0].engine
    assert list((tmp_path / "engines").iterdir()) == []
    cells = json.loads((tmp_path / "s.sweep" / "cells.json").read_text())
    assert (cells["schema"], len(cells["cells"]), len(cells["best"])) == ("cmx4trt-sweep/1", 4, 2)
    assert len((tmp_path / "s.sweep" / "cells.csv").read_text().splitlines()) == 5


def test_what_is_finished_is_not_repeated(sweep_of: SweepOf, run: Callable[..., Any]) -> None:
    """Killed twice, in the middle of a line; then the file gets another value."""
    ended = 0

    def killed(task: Task, attempt: int) -> Outcome | None:
        nonlocal ended
        ended += 1
        if ended in (3, 5):
            raise KeyboardInterrupt
        return None

    sweep = sweep_of(TEXT)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(sweep, killed)
        with open(Path(sweep.state) / "status.jsonl", "a", encoding="utf-8") as stream:
            stream.write('{"key": "cut o')
    result, runner, notes = run(sweep)
    assert result.error is None
    assert notes.counts == (6, 3)
    assert len(runner.order) == 3
    result, runner, _ = run(sweep_of(TEXT.replace("[1, 2]", "[1, 2, 3]")))
    assert len(runner.order) == 3
    assert len(result.rows) == 6


def test_an_engine_that_is_gone_is_built_again(sweep_of: SweepOf, run: Callable[..., Any]) -> None:
    sweep = sweep_of(TEXT)
    result, _, _ = run(sweep)
    Path(result.rows[0].engine).unlink()
    _, runner, _ = run(sweep)
    assert runner.order[0] == sweep.cells[0].build


def test_one_failure_stops_no_other(sweep_of: SweepOf, run: Callable[..., Any]) -> None:
    sweep = sweep_of(TEXT)
    first = sweep.cells[0]

    def refuse(task: Task, attempt: int) -> Outcome | None:
        return Outcome(task.key, 6, "the library did not build: no reason") if task.key == first.build else None

    result, runner, _ = run(sweep, refuse)
    assert isinstance(result.error, CellsFailedError)
    assert str(result.error).startswith("2 of 4 cells failed or are INVALID")
    assert [row.state for row in result.rows] == ["failed", "failed", "done", "done"]
    assert result.rows[0].error == "the library did not build: no reason"
    assert runner.order.count(first.build) == 1, "a refused request is not tried again"
    result, runner, _ = run(sweep)
    assert result.error is None
    assert runner.order[0] == first.build, "the next run tries it again"


@pytest.mark.parametrize(("losses", "state"), [(2, "done"), (3, "failed")])
def test_lost_tasks_are_begun_again_so_often(
    sweep_of: SweepOf, run: Callable[..., Any], losses: int, state: str
) -> None:
    def lose(task: Task, attempt: int) -> Outcome | None:
        return Outcome(task.key, lost=True, error="its node was lost") if attempt <= losses else None

    result, runner, notes = run(sweep_of("defaults: {random_weights: 0, bench: no}\ninclude: [{}]\n"), lose)
    assert result.rows[0].state == state
    assert len(runner.order) == 3
    assert notes.notes[0] == "build the one cell: its node was lost; retrying"


def test_what_no_node_can_run_fails_and_results_that_are_not_valid_are_kept(
    sweep_of: SweepOf, run: Callable[..., Any]
) -> None:
    def invalid(task: Task, attempt: int) -> Outcome | None:
        results = {"performance": BenchResult("CPU", COMPLETE, "Offline", "performance", "", valid=False)}
        return Outcome(task.key, 11, "INVALID: too short", results=results) if task.kind == MEASURE else None

    sweep = sweep_of("defaults: {random_weights: 0}\ninclude: [{batch_size: 2, gpu: sm89}, {batch_size: 4}]\n")
    result, _, _ = run(sweep, invalid)
    outcomes = [(row.state, row.error) for row in result.rows]
    assert outcomes == [("failed", "there is no sm89 here"), ("invalid", "INVALID: too short")]
    _, runner, _ = run(sweep)
    assert runner.order == []


def test_one_sweep_at_a_time_in_one_folder(sweep_of: SweepOf, run: Callable[..., Any]) -> None:
    sweep = sweep_of(TEXT)

    def again(task: Task, attempt: int) -> Outcome | None:
        with pytest.raises(OutputError, match=r"a sweep is running with .*status\.jsonl: process"):
            run_sweep(sweep, SweepRequest(sweep.file.path), Notes())
        return None

    run(sweep, again)
