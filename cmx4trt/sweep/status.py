"""The status file: a line of JSON for every task that ended, so that a sweep that was killed goes on where it was."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from cmx4trt.base.damage import MALFORMED, parse_json, reason
from cmx4trt.base.files import make_folder, open_text
from cmx4trt.base.locks import holder_of, try_lock
from cmx4trt.errors import OutputError

STATUS_NAME = "status.jsonl"
DONE, FAILED, INVALID = "done", "failed", "invalid"
"""States of a task; invalid: measured, and not valid by LoadGen's rules."""
SETTING = "--state"

Record = Mapping[str, Any]
"""A line: key, kind, state, exit_code, error, engine, reused, results, host, seconds, attempts, time (seconds since 1970)."""


class Status:
    """What is known of all tasks, by key; ``add`` writes before it is known here."""

    def __init__(self, stream: TextIO, records: dict[str, Record]) -> None:
        self._stream = stream
        self.records = records

    def add(self, record: Record) -> None:
        """Append a line. Raises OutputError."""
        try:
            self._stream.write(json.dumps({**record, "time": round(time.time(), 3)}) + "\n")
            self._stream.flush()
        except OSError as error:
            raise OutputError(
                f"cannot write {self._stream.name}: {error.strerror}; free space and start again"
            ) from error
        self.records[str(record["key"])] = record

    def finished(self, key: str) -> Record | None:
        """The record of a task that need not run again: it was done, or measured with a result that is not valid."""
        record = self.records.get(key)
        if record is None or record["state"] == FAILED or not os.path.isfile(str(record["engine"])):
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


def read_records(path: str) -> dict[str, Record]:
    """The last line of every task; lines that are cut off or no records are passed over. Raises OutputError."""
    records: dict[str, Record] = {}
    try:
        if not os.path.lexists(path):
            return {}
        with open_text(path) as stream:
            for line in stream:
                record = _record(line)
                if record is not None:
                    records[str(record["key"])] = record
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"cannot read {path}: {reason(error)}; give another {SETTING}") from error
    return records


def _record(line: str) -> Record | None:
    try:
        found = parse_json(line)
        complete = {"key", "kind", "state", "engine", "error", "results"} <= found.keys()
        return found if complete and isinstance(found["results"], dict) else None
    except MALFORMED:
        return None


def _ends_with_newline(path: str) -> bool:
    with open(path, "rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read() == b"\n"
