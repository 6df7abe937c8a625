"""The status file: a line of JSON for every task that ended, so that a sweep that was killed goes on where it was."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

from cmx4trt.base.damage import MALFORMED, parse_json, reason
from cmx4trt.base.files import make_folder, open_text
from cmx4trt.base.frozen import field, fields, replace
from cmx4trt.base.locks import holder_of, try_lock
from cmx4trt.base.typed import Record
from cmx4trt.errors import OutputError
from cmx4trt.store.manifest import ENGINE_ITSELF
from cmx4trt.store.results import Accuracy, BenchResult, Metric

STATUS_NAME = "status.jsonl"
DONE, FAILED, INVALID = "done", "failed", "invalid"
"""States of a task; invalid: measured, and not valid by LoadGen's rules."""
SETTING = "--state"


class Measured(Record):
    """What the status file and the page need of a result of LoadGen (store/results.py); the rest lies in ``folder``."""

    executed: str
    mode: str
    status: str = ""
    scenario: str = ""
    folder: str = ""
    valid: bool | None = None
    reason: str = ""
    metric: Metric | None = None
    latency_ns: Mapping[str, int] = field(default_factory=dict)
    samples_per_query: int = 0
    accuracy: Accuracy | None = None

    @classmethod
    def of(cls, result: BenchResult) -> Measured:
        """The same of a whole result."""
        return cls(**{one.name: getattr(result, one.name) for one in fields(cls)})

    @property
    def ran_engine(self) -> bool:
        """Whether the engine itself ran, rather than its graph."""
        return self.executed.startswith(ENGINE_ITSELF)


class TaskRecord(Record):
    """A line: what became of a task. ``results`` by mode; ``seconds`` of work; ``time``: in seconds since 1970."""

    key: str
    kind: str
    state: str
    error: str
    engine: str
    results: Mapping[str, Measured]
    name: str = ""
    exit_code: int = 0
    reused: bool = False
    host: str = ""
    seconds: float = 0.0
    attempts: int = 1
    time: float | None = None


class Status:
    """What is known of all tasks, by key; ``add`` writes before it is known here."""

    def __init__(self, stream: TextIO, records: dict[str, TaskRecord]) -> None:
        self._stream = stream
        self.records = records

    def add(self, record: TaskRecord) -> None:
        """Append a line, with the time. Raises OutputError."""
        record = replace(record, time=round(time.time(), 3))
        try:
            self._stream.write(json.dumps(record.to_dict()) + "\n")
            self._stream.flush()
        except OSError as error:
            raise OutputError(
                f"cannot write {self._stream.name}: {error.strerror}; free space and start again"
            ) from error
        self.records[record.key] = record

    def finished(self, key: str) -> TaskRecord | None:
        """The record of a task that need not run again: it was done, or measured with a result that is not valid."""
        record = self.records.get(key)
        if record is None or record.state == FAILED or not os.path.isfile(record.engine):
            return None
        return record


@contextmanager
def open_status(folder: str) -> Iterator[Status]:
    """The status in ``folder``, made where it is missing; one sweep at a time. Raises OutputError."""
    make_folder(folder, SETTING)
    path = os.path.join(folder, STATUS_NAME)
    try:
        with open(path, "a", encoding="utf-8") as stream:
            if not try_lock(stream.fileno()):
                raise OutputError(
                    f"a sweep is running with {path}: {holder_of(stream.fileno())}; wait for it, or give another {SETTING}"
                )
            if stream.tell() and not _ends_with_newline(path):
                stream.write("\n")  # whoever wrote the last line was killed meanwhile
            yield Status(stream, read_records(path))
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; give another {SETTING}") from error


def read_records(path: str) -> dict[str, TaskRecord]:
    """The last line of every task; lines that are cut off or no records are passed over. Raises OutputError."""
    records: dict[str, TaskRecord] = {}
    try:
        if not os.path.lexists(path):
            return {}
        with open_text(path) as stream:
            for line in stream:
                record = _record(line)
                if record is not None:
                    records[record.key] = record
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"cannot read {path}: {reason(error)}; give another {SETTING}") from error
    return records


def _record(line: str) -> TaskRecord | None:
    try:
        return TaskRecord.from_dict(parse_json(line))
    except MALFORMED:
        return None


def _ends_with_newline(path: str) -> bool:
    with open(path, "rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read() == b"\n"
