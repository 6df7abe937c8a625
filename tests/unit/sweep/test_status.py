"""The status file: a line for every task, read back by the next run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cmx4trt.store.results import COMPLETE, BenchResult, Metric
from cmx4trt.sweep.status import DONE, FAILED, INVALID, STATUS_NAME, Measured, TaskRecord, open_status, read_records

METRIC = Metric("samples_per_second", 12.5, "samples/s")
RESULT = BenchResult("the engine itself, by X on Y", COMPLETE, "Offline", "performance", "/logs", metric=METRIC)


def record(engine: Path, key: str = "a", state: str = DONE) -> TaskRecord:
    return TaskRecord(key, "measure", state, "", str(engine), {"performance": Measured.of(RESULT)}, seconds=1.5)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    with open_status(str(tmp_path)) as status:
        status.add(record(tmp_path / "e.plan", state=FAILED))
        status.add(record(tmp_path / "e.plan"))
    (found,) = read_records(str(tmp_path / STATUS_NAME)).values()
    assert (found.state, found.seconds) == (DONE, 1.5), "the last line counts"
    assert found.time is not None
    measured = found.results["performance"]
    assert (measured.metric, measured.folder, measured.ran_engine) == (METRIC, "/logs", True)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"key": "b"}',
        json.dumps({**record(Path()).to_dict(), "key": "b", "results": {"performance": 5}}),
    ],
)
def test_lines_that_are_no_records_are_passed_over(tmp_path: Path, line: str) -> None:
    path = tmp_path / STATUS_NAME
    path.write_text(json.dumps(record(tmp_path).to_dict()) + "\n" + line)
    assert list(read_records(str(path))) == ["a"]
    with open_status(str(tmp_path)) as status:
        status.add(record(tmp_path, "c"))
    assert list(read_records(str(path))) == ["a", "c"], "a line that was cut off does not spoil the next"


def test_a_task_is_finished_while_its_engine_is_there(tmp_path: Path) -> None:
    engine = tmp_path / "e.plan"
    engine.touch()
    with open_status(str(tmp_path)) as status:
        for key, state in (("done", DONE), ("invalid", INVALID), ("failed", FAILED)):
            status.add(record(engine, key, state))
        assert [key for key in ("done", "invalid", "failed", "other") if status.finished(key)] == ["done", "invalid"]
        engine.unlink()
        assert status.finished("done") is None
