"""The output of a running sweep: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TextIO

from cmx4trt.base.damage import printable
from cmx4trt.base.quantities import rounded
from cmx4trt.sweep.status import DONE, TaskRecord
from cmx4trt.sweep.tasks import Task

_SHOWN = 8
"""Rows of the live table: running tasks, preceded by those that ended last."""
_LINE_SECONDS = 30.0
"""Seconds between lines in a log that only say that work is still in progress."""


def figure_of(record: TaskRecord) -> str:
    """The result of a task in a few words."""
    if record.state != DONE:
        return record.error
    for result in record.results.values():
        if result.metric is not None:
            scale, unit = (1e-6, "ms") if result.metric.unit == "ns" else (1.0, result.metric.unit)
            return f"{rounded(scale * result.metric.value, 4)} {unit}"
    return "reused" if record.reused else ""


class PlainTable:
    """One line per finished task."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._start = time.monotonic()
        self._told = self._start
        self._total = self._ended = 0

    def planned(self, tasks: int, finished: int) -> None:
        """The number of tasks."""
        self._total, self._ended = tasks, finished
        self._write(f"{tasks} tasks, {finished} of them finished before")

    def ended(self, task: Task, record: TaskRecord) -> None:
        """The outcome of a task."""
        self._ended += 1
        figure = figure_of(record)
        words = f"{self._ended}/{self._total} {task.kind} {task.name}: {record.state} in {record.seconds:.1f} s"
        self._write(f"{words} on {record.host}{f': {figure}' if figure else ''}")

    def going(self, running: Iterable[Task], waiting: int) -> None:
        """A progress line from time to time."""
        if time.monotonic() - self._told >= _LINE_SECONDS:
            self._write(f"{self._ended}/{self._total} ended, {len(list(running))} handed over, {waiting} ready")

    def note(self, text: str) -> None:
        """A separate line."""
        self._write(f"note: {text}")

    def close(self) -> None:
        """There is nothing to restore."""

    def _write(self, text: str) -> None:
        self._told = time.monotonic()
        with suppress(OSError, ValueError):  # a sweep does not fail because its reader is gone
            self._stream.write(f"[{self._told - self._start:7.1f} s] {printable(text)}\n")
            self._stream.flush()


class LiveTable(PlainTable):
    """The same as a table that is updated in place. Raises ImportError without rich."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        from rich.console import Console
        from rich.live import Live

        self._rows: list[tuple[Task, TaskRecord]] = []
        self._running: list[Task] = []
        self._waiting = 0
        self._live: Any = Live(
            console=Console(file=stream), get_renderable=self._table, refresh_per_second=2, transient=True
        )
        self._live.start()

    def ended(self, task: Task, record: TaskRecord) -> None:
        """Add to the table; failures are also printed above it."""
        self._ended += 1
        self._rows = [*self._rows, (task, record)][-_SHOWN:]
        if record.state != DONE:
            self.note(f"{task.kind} {task.name}: {record.error}")

    def going(self, running: Iterable[Task], waiting: int) -> None:
        """The next frame."""
        self._running, self._waiting = list(running), waiting

    def close(self) -> None:
        """Restore the terminal."""
        self._live.stop()

    def _write(self, text: str) -> None:
        if hasattr(self, "_live"):
            from rich.text import Text

            self._live.console.print(Text(printable(text)))

    def _table(self) -> Any:
        from rich.table import Table

        seconds = time.monotonic() - self._start
        title = f"{self._ended} of {self._total} tasks, {len(self._running)} handed over, {self._waiting} ready, {seconds:.0f} s"
        table = Table(title=title, title_justify="left", expand=True)
        for column in ("task", "cell", "state", "found", "where"):
            table.add_column(column, no_wrap=True, overflow="ellipsis")
        for task, record in self._rows:
            row = (task.kind, task.name, record.state, figure_of(record), record.host)
            table.add_row(*map(_plain, row))
        for task in self._running[:_SHOWN]:
            table.add_row(*map(_plain, (task.kind, task.name, "under way", "", "")))
        return table


def _plain(text: str) -> Any:
    """Text that is shown literally: rich would interpret brackets as markup."""
    from rich.text import Text

    return Text(printable(text))


def table_for(stream: TextIO) -> PlainTable:
    """The live table if the stream is a terminal and rich is installed."""
    if stream.isatty():
        with suppress(ImportError):
            return LiveTable(stream)
    return PlainTable(stream)
