"""What is sent back from nodes that do not see the store: nothing damaged, nothing outside, nothing twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cmx4trt.base.digests import sha256_of_file
from cmx4trt.errors import OutputError
from cmx4trt.pipeline.plan import plan
from cmx4trt.sweep.arrival import engine_to_carry, receive_engine, receive_results
from cmx4trt.sweep.run import Sweep
from cmx4trt.sweep.tasks import Carried, Outcome, Task
from cmx4trt.sweep.worker import run_task

TEXT = "defaults: {builder: 'null', random_weights: 3, verify: no, report: no, bench: {count: 4}}\ninclude: [{batch_size: 2}]\n"
Sent = tuple[Outcome, Sweep, Task, Task]


@pytest.fixture
def sent(null: None, sweep_of: Callable[[str], Sweep], tmp_path: Path) -> Sent:
    """An engine from a node that does not see the store."""
    sweep = sweep_of(TEXT)
    build, measure = sweep.tasks()
    return run_task(build, str(tmp_path / "not here"), "no token"), sweep, build, measure


def carried(name: str, data: bytes) -> Carried:
    return Carried(name, hashlib.sha256(data).hexdigest(), data)


def test_an_engine_and_its_results_arrive(sent: Sent, tmp_path: Path) -> None:
    outcome, sweep, _, measure = sent
    assert (outcome.exit_code, outcome.error) == (0, "")
    assert not (tmp_path / "not here").exists()
    request = sweep.cells[0].request
    received = receive_engine(outcome, request)
    assert received.engine == plan(request).engine
    assert plan(request).reused, "the store takes it for its own"
    assert sha256_of_file(received.engine) == outcome.carried[-1].sha256 or len(outcome.carried) == 2
    assert run_task(measure, str(tmp_path / "not here"), "no token").wants_engine
    measured = run_task(measure, str(tmp_path / "not here"), "no token", engine_to_carry(received.engine))
    assert (measured.exit_code, measured.error) == (0, "")
    there = measured.results["performance"].folder
    laid = receive_results(replace(measured, error=f"not valid; logs in {there}"), received.engine)
    folder = Path(laid.results["performance"].folder)
    assert laid.error == f"not valid; logs in {folder}"
    assert folder.parts[-4].startswith(f"{measure.key}-")
    assert folder.parts[-3:] == ("Offline", "performance", "run_1")
    assert json.loads((folder / "cmx4trt_result.json").read_text())["valid"] is True
    assert folder.is_relative_to(Path(received.engine).parent)


def test_the_same_engine_again_stays(sent: Sent) -> None:
    outcome, sweep, _, _ = sent
    first = receive_engine(outcome, sweep.cells[0].request)
    before = Path(first.engine).stat().st_mtime_ns
    receive_engine(outcome, sweep.cells[0].request)
    assert Path(first.engine).stat().st_mtime_ns == before


def test_what_is_damaged_or_no_engine_is_refused(sent: Sent, tmp_path: Path) -> None:
    outcome, sweep, _, _ = sent
    request, files = sweep.cells[0].request, list(outcome.carried)
    names = [file.name for file in files]
    engine = next(index for index, name in enumerate(names) if name.endswith(".plan"))
    damaged = [replace(file, data=file.data + b"x") if index == engine else file for index, file in enumerate(files)]
    exchanged = [carried(file.name, b"x") if index == engine else file for index, file in enumerate(files)]
    outside = [*files, carried("../../x", b"")]
    for sent_files, words in (
        (damaged, "was damaged in transit"),
        (exchanged, "does not match its manifest"),
        (outside, "outside its folder"),
        ([files[engine]], "did not return an engine with its manifest"),
    ):
        with pytest.raises(OutputError, match=words):
            receive_engine(replace(outcome, carried=tuple(sent_files)), request)
    assert not list(tmp_path.rglob("*.plan"))


def test_two_sweeps_measure_the_same_side_by_side(sent: Sent, tmp_path: Path) -> None:
    """LoadGen refuses a folder that another run writes to."""
    outcome, sweep, _, measure = sent
    engine = receive_engine(outcome, sweep.cells[0].request).engine
    folders = {
        run_task(measure, str(tmp_path / "not here"), token, engine_to_carry(engine)).carried[0].name.split("/")[1]
        for token in ("one sweep", "another")
    }
    assert len(folders) == 2
