"""What to do after a command."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cmx4trt.cli import following, main
from cmx4trt.cli.evaluations import print_evaluation
from cmx4trt.pipeline.evaluate import Evaluation
from cmx4trt.store import folder as store


@pytest.fixture(scope="module")
def engine(publish_small: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(publish_small(tmp_path_factory.mktemp("a folder"), batch_size=2))


def rows_after_build(engine: Path, **request: str) -> dict[str, str]:
    manifest = store.read_manifest(str(engine.with_suffix(".json")))
    manifest = replace(manifest, request=replace(manifest.request, **request))
    return dict(following.after_build(str(engine), manifest))


def test_an_engine_for_other_machines(engine: Path) -> None:
    """Which files to copy, to which GPUs, and the lines to type there."""
    rows = rows_after_build(engine)
    assert shlex.split(rows["copy"]) == [str(engine), str(engine.with_suffix(".json"))]
    assert "sm89 (Ada: L40S, L40, …)" in rows["to a machine with"]
    assert "sm75" not in rows["to a machine with"], "the library's own set leaves Turing out"
    assert rows["verify it there"] == f"cmx4trt verify {engine.name}"
    assert rows["benchmark it there"] == f"cmx4trt bench {engine.name}"


def test_an_engine_for_chosen_gpus(engine: Path) -> None:
    rows = rows_after_build(engine, target="sm75+sm120")
    assert rows["to a machine with"] == "a GPU of sm75 (Turing: T4, T4G, …), sm120 (Blackwell: RTX 5050, RTX 5060, …)"


def test_an_engine_for_this_machine(engine: Path) -> None:
    rows = rows_after_build(engine, target="current")
    assert rows == {
        "verify it": shlex.join(["cmx4trt", "verify", str(engine)]),
        "benchmark it": shlex.join(["cmx4trt", "bench", str(engine)]),
    }


def test_the_model_is_copied_too(engine: Path) -> None:
    manifest = store.read_manifest(str(engine.with_suffix(".json")))
    manifest = replace(manifest, source=replace(manifest.source, kind="file", path="/models/my net.onnx"))
    rows = dict(following.after_build(str(engine), manifest))
    assert shlex.split(rows["copy"])[-1] == "/models/my net.onnx"
    assert "'--model=my net.onnx'" in rows["verify it there"]


@pytest.mark.parametrize(("name", "expected"), [("verify", "cmx4trt bench x.plan"), ("bench", "cmx4trt report x.plan")])
def test_after_an_evaluation(capsys: pytest.CaptureFixture[str], name: str, expected: str) -> None:
    print_evaluation(name, "x.plan", Evaluation("x.plan", "the graph", ran_engine=False, device="cpu"))
    out = capsys.readouterr().out
    assert "the same command on a machine with a GPU that the engine supports" in out
    assert out.endswith(f"{expected}\n")
    print_evaluation(name, "x.plan", Evaluation("x.plan", "the engine", ran_engine=True, device="cuda"))
    assert "the same command" not in capsys.readouterr().out


def test_after_inspect_and_report(engine: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["inspect", str(engine)]) == 0
    assert "\nnext\n" in capsys.readouterr().out
    assert main(["report", str(engine), f"--html={tmp_path / 'a page.html'}"]) == 0
    assert capsys.readouterr().out.endswith(f"open '{tmp_path / 'a page.html'}' in a browser\n")


def test_after_a_dry_run(capsys: pytest.CaptureFixture[str], tmp_path: Path, small_builder: object) -> None:
    assert main(["build", "--random_weights=0", "--dry_run", f"--output_dir={tmp_path}"]) == 0
    assert capsys.readouterr().out.endswith("the same command without --dry_run\n")


def test_after_calibration() -> None:
    options = {"network": "resnet50", "model": "my net.onnx", "random_weights": None}
    (row,) = following.after_calibrate(options, "r.json")
    line = [
        "cmx4trt",
        "build",
        "--network=resnet50",
        "--model=my net.onnx",
        "--precision=int8",
        "--calibration_cache=r.json",
    ]
    assert shlex.split(row[1]) == line
    ((_, text),) = following.after_calibrate(options, None)
    assert "--ranges=FILE" in text
