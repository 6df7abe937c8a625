"""The folder of a run: nobody can take the files of two runs, or of half a run, for those of one."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cmx4trt.base.progress import Silent
from cmx4trt.bench.log_folder import LOG_NAMES, hold_log_folder
from cmx4trt.bench.results import read_detail_log
from cmx4trt.errors import CmxError, DeviceError, OutputError, RequestError
from cmx4trt.store.results import RESULT_NAME, TEXT_NAME, BenchResult

pytest.importorskip("mlperf_loadgen", reason="LoadGen is not installed (pip install 'cmx4trt[bench]')")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where ``run_echo`` has its logs."""
    return tmp_path / "logs"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def result_in(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / RESULT_NAME).read_text())
    return found


def good_run(run_echo: Any, echo: Any, folder: Path) -> dict[str, bytes]:
    assert run_echo(echo(), scenario="Offline", count=100).valid
    return contents(folder)


def test_what_fails_before_loadgen_starts_leaves_an_earlier_run_as_it_was(
    run_echo: Any, echo: Any, folder: Path, tmp_path: Path
) -> None:
    before = good_run(run_echo, echo, folder)
    conf = tmp_path / "user.conf"
    conf.write_text("*.Offline.min_query_count = 1_00\n")
    refused: list[tuple[type[CmxError], Any, dict[str, Any]]] = [
        (RequestError, echo(), {"user_conf": str(conf)}),
        (RequestError, echo(), {"count": 10**9}),
        (DeviceError, echo(fail_at=0), {"count": 100}),  # in the measurement
    ]
    for error, session, settings in refused:
        with pytest.raises(error):
            run_echo(session, scenario="Offline", **settings)
        assert contents(folder) == before


class After(Silent):
    """Does something between LoadGen's end and the reading of its logs."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        yield
        if name.startswith("bench "):
            self._action()


def test_what_fails_after_loadgen_has_ended_fails_the_run(run_echo: Any, echo: Any, folder: Path) -> None:
    good_run(run_echo, echo, folder)
    empty = After((folder / "mlperf_log_detail.txt").unlink)
    with pytest.raises(OutputError, match=r"mlperf_log_detail\.txt"):
        run_echo(echo(), progress=empty, scenario="Offline", count=100)
    (folder / "mlperf_log_detail.txt.partial").touch()
    assert set(contents(folder)) == {RESULT_NAME, TEXT_NAME, *(f"{name}.partial" for name in LOG_NAMES)}
    assert (result_in(folder)["status"], result_in(folder)["valid"]) == ("failed", None)


@pytest.mark.parametrize("name", [RESULT_NAME, TEXT_NAME])
def test_a_result_that_cannot_be_written_leaves_none_that_is_complete(
    run_echo: Any, echo: Any, folder: Path, name: str
) -> None:
    """Once LoadGen has written its logs, ``name`` cannot be written, whatever its content."""
    good_run(run_echo, echo, folder)

    def block() -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    with pytest.raises(OutputError, match="Is a directory"):
        run_echo(echo(), progress=After(block), scenario="Offline", count=100)
    (folder / name).rmdir()
    left = contents(folder)
    assert not set(LOG_NAMES) & set(left)
    assert b"VALID" not in left.get(TEXT_NAME, b"")
    assert RESULT_NAME not in left or result_in(folder)["status"] == "failed"


def test_while_a_run_is_under_way_no_earlier_result_is_there(run_echo: Any, echo: Any, folder: Path) -> None:
    """This is what a process leaves that is killed."""
    before = good_run(run_echo, echo, folder)
    session = echo()
    answer, seen = session.answer, []

    def look(images: Any) -> Any:
        seen.append((result_in(folder)["status"], result_in(folder)["valid"], contents(folder)))
        return answer(images)

    session.answer = look
    run_echo(session, scenario="Offline", mode="accuracy")
    assert seen
    for status, valid, files in seen:
        assert (status, valid) == ("interrupted", None)
        assert all(files[name] != before[name] for name in ("mlperf_log_summary.txt", "mlperf_log_detail.txt"))
    assert result_in(folder)["status"] == "complete"


@pytest.mark.parametrize("mode", ["performance", "accuracy"])
def test_a_log_that_was_cut_off_is_no_result(run_echo: Any, echo: Any, folder: Path, mode: str) -> None:
    run_echo(echo(), scenario="Offline", mode=mode, count=100 if mode == "performance" else None)
    path = folder / "mlperf_log_detail.txt"
    text = path.read_text()
    read_detail_log(str(folder), mode)
    end = text.index('"result_validity"' if mode == "performance" else '"power_end"')
    path.write_text(text[: text.rindex("\n", 0, end) + 1])
    with pytest.raises(OutputError, match="is incomplete"):
        read_detail_log(str(folder), mode)
    path.write_text(text[:end])  # in the middle of a line
    with pytest.raises(OutputError, match="cannot be read"):
        read_detail_log(str(folder), mode)


def test_a_second_run_in_the_same_folder_is_refused_while_the_first_one_runs(
    run_echo: Any, echo: Any, folder: Path
) -> None:
    session, busy, go_on = echo(), threading.Event(), threading.Event()
    answer = session.answer

    def wait(images: Any) -> Any:
        busy.set()
        assert go_on.wait(60)
        return answer(images)

    session.answer = wait
    results: list[BenchResult] = []
    first = threading.Thread(target=lambda: results.append(run_echo(session, scenario="Offline", count=100)))
    first.start()
    assert busy.wait(60)
    with pytest.raises(
        OutputError, match=r"another run writes to .*logs: process .*; wait for it or give another --log_dir"
    ):
        run_echo(echo(), scenario="Offline", count=100)
    go_on.set()
    first.join()
    assert results[0].valid
    assert set(contents(folder)) == {RESULT_NAME, TEXT_NAME, *LOG_NAMES}  # no lock file
    assert run_echo(echo(), scenario="Offline", count=100).valid


@pytest.mark.parametrize("name", [RESULT_NAME, TEXT_NAME, *LOG_NAMES])
def test_a_folder_in_place_of_a_file_is_found_before_anything_runs(
    run_echo: Any, echo: Any, folder: Path, name: str
) -> None:
    (folder / name).mkdir(parents=True)
    session = echo()
    with pytest.raises(OutputError, match=f"cannot write .*{name}.*--log_dir"):
        run_echo(session, scenario="Offline", count=100)
    assert session.batches == []


def test_a_folder_whose_name_is_not_utf_8_is_one_sentence(tmp_path: Path) -> None:
    name = os.fsdecode(os.path.join(os.fsencode(tmp_path), b"\xff"))
    with (
        pytest.raises(OutputError, match=r"is not UTF-8, which LoadGen requires; give another --log_dir"),
        hold_log_folder(name),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
