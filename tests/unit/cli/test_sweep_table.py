"""What a sweep shows while it runs: lines in a log, a table on a terminal."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest

from cmx4trt.cli.sweep_table import LiveTable, PlainTable, figure_of, table_for
from cmx4trt.store.results import Metric
from cmx4trt.sweep.status import Measured, TaskRecord
from cmx4trt.sweep.tasks import BUILD, MEASURE, Needs, Task


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


def task(kind: str, name: str) -> Task:
    return Task(f"{kind}{name}", kind, name, Needs(1, 1, 1), {})


def record(state: str = "done", error: str = "", **metric: Any) -> TaskRecord:
    results = {"performance": Measured("", "performance", metric=Metric(**metric))} if metric else {}
    return TaskRecord("k", BUILD, state, error, "", results, seconds=1.25, host="n1")


RATE = {"name": "samples_per_second", "value": 1234.5, "unit": "samples/s"}


def test_a_log_has_a_line_for_each_task() -> None:
    stream = io.StringIO()
    table = table_for(stream)
    assert type(table) is PlainTable
    table.planned(3, 1)
    table.ended(task(MEASURE, "batch_size=2"), record(**RATE))
    table.ended(task(BUILD, "batch_size=4"), record("failed", "no \x1b[31mspace"))
    table.going([task(BUILD, "x")], 2)
    table.close()
    lines = [line[12:] for line in stream.getvalue().splitlines()]
    assert lines == [
        "3 tasks, 1 of them finished before",
        "2/3 measure batch_size=2: done in 1.2 s on n1: 1,234 samples/s",
        "3/3 build batch_size=4: failed in 1.2 s on n1: no \\x1b[31mspace",
    ]


def test_a_terminal_has_a_table_that_reads_nothing_as_markup() -> None:
    pytest.importorskip("rich", reason="rich is not installed (pip install 'cmx4trt[sweep]')")
    stream = Terminal()
    table = table_for(stream)
    assert isinstance(table, LiveTable)
    table.planned(3, 0)
    table.ended(task(MEASURE, "[red]batch_size=2"), record(**RATE))
    table.ended(task(BUILD, "batch_size=4"), record("failed", "no [b]space"))
    table.going([task(BUILD, "batch_size=8")], 2)
    table._live.refresh()
    table.close()
    text = stream.getvalue()
    for words in ("[red]batch_size=2", "no [b]space", "batch_size=8", "under way", "2 of 3 tasks", "1,234"):
        assert words in text


@pytest.mark.parametrize(
    ("found", "figure"),
    [
        (record(name="latency", value=4.2e6, unit="ns"), "4.2 ms"),
        (replace(record(), reused=True), "reused"),
        (record(), ""),
    ],
)
def test_figures(found: TaskRecord, figure: str) -> None:
    assert figure_of(found) == figure
