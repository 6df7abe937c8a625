from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cmx4trt.backends.common_code.build import CommonCodeBuilder
from cmx4trt.base.verdicts import SKIPPED
from cmx4trt.cli import main
from cmx4trt.errors import (
    BuildError,
    CmxError,
    DataError,
    DeviceError,
    MissingSoftwareError,
    ModelError,
    OutputError,
    RequestError,
    UnsupportedError,
)
from cmx4trt.pipeline import build as pipeline
from cmx4trt.pipeline.plan import plan
from cmx4trt.requests.build import BuildRequest

GENERATIONS = ("r2.1", "r3.0", "r4.0", "r4.1", "r5.0", "r5.1", "r6.0")


MODELS = ("resnet50", "retinanet")


SYSTEM = "H200-SXM-141GBx1"


Make = Callable[..., Any]


@pytest.mark.parametrize("network", MODELS)
@pytest.mark.parametrize("generation", GENERATIONS)
def test_ok_build(checkout: Make, request_for: Make, generation: str, network: str) -> None:
    tree = checkout(generation)
    result = pipeline.build(request_for(tree, network=network, copy_streams=3))
    manifest = result.manifest
    size = 17179869184 if network == "retinanet" else 4294967296
    assert Path(result.engine).read_text() == f"engine of {generation} with {size} bytes"
    name = rf"{network}-Offline-gpu-b16-int8-[0-9a-f]{{12}}\.common-code\.plan"
    assert re.fullmatch(name, Path(result.engine).name)
    assert plan(request_for(tree, network=network, copy_streams=3)).engine == result.engine
    assert Path(result.engine).parents[2].name == "NVIDIA-Fake-5090-sm120"
    understood = tree.parsed()
    batch = 16 if generation in ("r2.1", "r3.0", "r4.0") else f"{network}:16"
    assert understood["gpu_batch_size"] == batch
    assert understood["device_types" if tree.workloads else "gpu_only"] in ("gpu", True)
    assert understood["gpu_copy_streams"] == 3
    assert understood["workspace_size"] == size
    assert (understood["precision"], understood["input_dtype"], understood["input_format"]) == (
        "int8",
        "int8",
        "linear",
    )
    assert (understood["benchmarks"], understood["scenarios"]) == (network, "Offline")
    assert manifest.builder.version == generation
    assert manifest.builder.more["system_id"] == SYSTEM
    assert manifest.builder.more["gpu"] == "NVIDIA Fake 5090"
    assert "--precision=int8" in manifest.builder.more["flags"]
    assert manifest.verification.verdict == SKIPPED
    assert manifest.execution.to_dict() == {"engine_executed_on_a_device": "no"}
    assert manifest.source.sha256
    log = Path(manifest.builder.more["log"])
    assert log == Path(result.engine).with_suffix(".log")
    assert "Time taken to generate engines" in log.read_text()


def test_plan(checkout: Make, request_for: Make) -> None:
    """What would be built, before and after it was, and where CM has still to fetch NVIDIA's code and the model."""
    request = request_for(checkout("r4.1"))
    planned = plan(request)
    assert (planned.builder, planned.reused) == ("common-code r4.1", None)
    assert pipeline.build(request).engine == planned.engine
    assert plan(request) == planned, "whether it still fits, only NVIDIA's code could tell"
    assert "which a dry run does not start" in planned.title
    planned = plan(request.changed({"common_code": None, "model": None}), model_follows=True)
    assert (planned.builder, planned.source) == ("common-code", "the MLPerf file, which a dependency fetches")


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_dry_run_executes_nothing_of_a_tree(
    checkout: Make, request_for: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], generation: str
) -> None:
    """Whoever was given a folder can look first: its Python, its make and its git hooks stay untouched, and so does it."""
    tree, pwned = checkout(generation), tmp_path / "PWNED"
    for path in tree.root.rglob("*.py"):
        path.write_text(f"open({str(pwned)!r}, 'w')\n{path.read_text()}")
    tree.write("Makefile", f"$(shell touch {pwned})\ngenerate_engines:\n\ttouch {pwned}\n")
    subprocess.run(["git", "init", "-q", str(tree.root)], check=True)
    for name in ("core.fsmonitor", "core.sshCommand", "core.pager", "core.editor"):
        subprocess.run(["git", "-C", str(tree.root), "config", name, f"touch {pwned}"], check=True)
    before = {path: path.stat().st_mtime_ns for path in tree.root.rglob("*")}
    options = {"device": "cuda", "common_code": tree.root, "batch_size": 16, "output_dir": tmp_path / "out"}
    assert main(["build", "--dry_run", *(f"--{name}={value}" for name, value in options.items())]) == 0
    assert f"common-code {generation}" in capsys.readouterr().out
    assert not pwned.exists()
    assert {path: path.stat().st_mtime_ns for path in tree.root.rglob("*")} == before


_WHAT = r"NVIDIA's code {generation}"


OUTCOMES: dict[str, tuple[dict[str, object], type[CmxError], int, str]] = {
    "unknown system": (
        {},
        DeviceError,
        9,
        _WHAT + r" does not know this system .*use the builder _tensorrt.*SYSTEM_NAME",
    ),
    "no config": ({}, UnsupportedError, 10, _WHAT + r" has no configuration .*builder _tensorrt"),
    "build failure": (
        {},
        BuildError,
        6,
        _WHAT
        + r" failed: AttributeError: 'NoneType' object has no attribute 'nbytes' \(exit status 2\); its log is .*\.log",
    ),
    "0-byte plan": (
        {},
        BuildError,
        6,
        _WHAT + r" failed: TypeError: a bytes-like object is required, not 'NoneType' \(exit status 2\)",
    ),
    "0-byte plan, status 0": ({}, BuildError, 6, _WHAT + r" left an empty engine .*\.plan; its log is"),
    "nothing": (
        {},
        BuildError,
        6,
        _WHAT + r" ended without an error but did not create the engine .*\.plan; its log is",
    ),
    "missing model": (
        {},
        ModelError,
        3,
        _WHAT + r" needs .*resnet50_v1\.onnx, which is missing; .*cmr .get ml-model resnet50",
    ),
    "missing plugin": (
        {"network": "retinanet"},
        MissingSoftwareError,
        5,
        r"NVIDIA's plugin .*\.so is missing; build it with: make build_plugins",
    ),
    "wrong precision": (
        {"network": "retinanet", "precision": "bf16"},
        UnsupportedError,
        10,
        _WHAT + r" cannot build \w+ in precision bf16",
    ),
}


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("generation", GENERATIONS)
def test_failures(checkout: Make, request_for: Make, generation: str, outcome: str) -> None:
    """The table release x outcome: each ends in one sentence and its exit code, and nothing is published."""
    tree = checkout(generation)
    values, error, code, sentence = OUTCOMES[outcome]
    tree.behave(outcome)
    if outcome == "missing model":
        (tree.scratch / tree.models["resnet50"]).unlink()
    if outcome == "missing plugin":
        (tree.root / tree.plugins[-1]).unlink()
    request = request_for(tree, **values)
    with pytest.raises(error, match=sentence.format(generation=generation.replace(".", r"\."))) as caught:
        pipeline.build(request)
    assert caught.value.exit_code == code
    assert "\n" not in str(caught.value)
    assert not list(Path(request.output_dir).rglob("*.plan"))
    assert not list(Path(request.output_dir).rglob("*.json"))


@pytest.mark.parametrize(
    ("generation", "network", "accepted"),
    [
        ("r2.1", "resnet50", True),
        ("r2.1", "retinanet", True),
        ("r3.0", "resnet50", True),
        ("r3.0", "retinanet", False),
        *((g, m, False) for g in GENERATIONS[2:] for m in MODELS),
    ],
)
def test_other_precisions(checkout: Make, request_for: Make, generation: str, network: str, accepted: bool) -> None:
    tree = checkout(generation)
    request = request_for(tree, network=network, precision="fp16")
    if accepted:
        pipeline.build(request)
        assert (tree.parsed()["precision"], tree.parsed()["input_dtype"]) == ("fp16", "fp16")
    else:
        with pytest.raises(UnsupportedError, match=r"precision fp16, expected int8; use _int8, or _tensorrt"):
            pipeline.build(request)


def test_an_old_engine_is_not_taken_for_a_new_one(checkout: Make, request_for: Make) -> None:
    tree = checkout("r4.1")
    pipeline.build(request_for(tree))
    tree.behave("nothing")
    with pytest.raises(BuildError, match=r"did not change the engine"):
        pipeline.build(request_for(tree, copy_streams=2))


def test_an_engine_is_reused_until_something_changes(checkout: Make, request_for: Make) -> None:
    tree = checkout("r4.1")
    assert not pipeline.build(request_for(tree)).reused
    assert pipeline.build(request_for(tree)).reused
    tree.write("code/resnet50/tensorrt/calibrator.cache", "TRT-100100-EntropyCalibration2\npatched: 3f800000\n")
    assert not pipeline.build(request_for(tree)).reused
    tree.know_system("H200-SXM-141GBx2")
    assert not pipeline.build(request_for(tree)).reused
    (tree.scratch / tree.models["resnet50"]).write_text("another model")
    assert not pipeline.build(request_for(tree)).reused


def test_a_build_left_running_does_not_block(checkout: Make, request_for: Make, stand_in: Callable[..., None]) -> None:
    stand_in("common-code", builder=lambda: CommonCodeBuilder(grace_seconds=0.2))
    tree = checkout("r4.0")
    tree.behave("left running")
    pipeline.build(request_for(tree))
    assert not processes_in(tree.root)


def processes_in(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.readlink(entry / "cwd") == str(folder) and "zombie" not in (entry / "status").read_text():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_an_interruption_ends_everything(checkout: Make, tmp_path: Path) -> None:
    tree = checkout("r5.0")
    tree.behave("slow")
    program = (
        "import signal, sys, cmx4trt.pipeline.build as p; from cmx4trt.requests.build import BuildRequest as B\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell start with it ignored\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[3] / 'data' / 'fake_pycuda')!r})\n"
        f"p.build(B.from_values(dict(device='cuda', common_code={str(tree.root)!r}, output_dir={str(tmp_path / 'out')!r})))"
    )
    repository = str(Path(__file__).parents[4])
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": f"{repository}:{os.environ['PYTHONPATH']}"},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not any("building for long" in log.read_text() for log in (tmp_path / "out").rglob("*.common-code.log")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate()[1]
    assert not processes_in(tree.root)


def test_the_retinanet_of_torchvision_is_refused(checkout: Make, request_for: Make, tmp_path: Path) -> None:
    tree = checkout("r4.1")
    model = tmp_path / "resnext50_32x4d_fpn.onnx"
    model.write_text("boxes scores labels")
    with pytest.raises(ModelError, match=r"is not the RetinaNet that NVIDIA's code r4\.1 builds .*make download_model"):
        pipeline.build(request_for(tree, network="retinanet", model=model))


@pytest.mark.parametrize(
    ("remove", "error", "text"),
    [
        (
            "build/inference",
            MissingSoftwareError,
            r"needs a clone of mlcommons/inference .*get mlcommons inference src",
        ),
        (
            "build/inference/tools/submission/submission_checker.py",
            MissingSoftwareError,
            "does not match NVIDIA's code",
        ),
        ("code/resnet50/tensorrt/calibrator.cache", DataError, "calibrator.cache for int8, which is missing"),
        ("data_maps/imagenet/cal_map.txt", DataError, "cal_map.txt for int8, which is missing"),
        ("code/resnet50", UnsupportedError, r"has no code for resnet50"),
        ("Makefile", UnsupportedError, r"contains no NVIDIA code that this package supports"),
    ],
)
def test_missing_parts(checkout: Make, request_for: Make, remove: str, error: type[CmxError], text: str) -> None:
    tree = checkout("r4.1")
    (tree.root / remove).rename(tree.root.parent / "removed")
    with pytest.raises(error, match=text):
        pipeline.build(request_for(tree))


def test_missing_calibration_arrays_are_counted(checkout: Make, request_for: Make) -> None:
    tree = checkout("r5.0")
    arrays = tree.scratch / "preprocessed_data/imagenet/ResNet50/fp32"
    first = sorted(arrays.iterdir())[0]
    first.unlink()
    with pytest.raises(DataError, match=rf"1 of 2 calibration arrays .*{first.stem}\.npy.*_preprocess_data _resnet50"):
        pipeline.build(request_for(tree))


def test_loadgen_is_needed_from_r51_on(checkout: Make, request_for: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = checkout("r5.1")
    monkeypatch.delenv("PYTHONPATH")
    with pytest.raises(MissingSoftwareError, match="mlperf_loadgen, which is missing"):
        pipeline.build(request_for(tree))


def test_r60_needs_its_third_parties(checkout: Make, request_for: Make) -> None:
    tree = checkout("r6.0")
    (tree.root / "3rdparty/trtllm").rename(tree.root / "3rdparty/gone")
    with pytest.raises(MissingSoftwareError, match="3rdparty/trtllm, which is missing"):
        pipeline.build(request_for(tree))


@pytest.mark.parametrize(
    ("generation", "values", "error", "text"),
    [
        ("r4.1", {"network": "retinanet", "workspace_size": "8GiB"}, RequestError, "at least 12500000000 .*=16GiB"),
        (
            "r3.0",
            {"scenario": "SingleStream"},
            RequestError,
            "expected 1: NVIDIA's code r3.0 builds nothing else for SingleStream",
        ),
        ("r2.1", {"scenario": "MultiStream", "batch_size": 16}, RequestError, "a divisor of 8"),
        ("r4.1", {"random_weights": 1}, UnsupportedError, "not random weights; use _tensorrt"),
        ("r4.1", {"workspace_size": "31GiB"}, DeviceError, "MiB in total"),
        ("r4.1", {"common_code": "/nowhere"}, MissingSoftwareError, "there is no folder /nowhere"),
        ("r4.1", {"common_code": None}, MissingSoftwareError, "get nvidia mlperf inference common-code"),
        ("r4.1", {"model": "/nowhere.onnx"}, ModelError, r"model file /nowhere\.onnx does not exist"),
    ],
)
def test_early_refusals(
    checkout: Make, request_for: Make, generation: str, values: dict[str, object], error: type[CmxError], text: str
) -> None:
    with pytest.raises(error, match=text):
        pipeline.build(request_for(checkout(generation), **values))


def test_retinanet_of_r21_has_no_workspace_minimum(checkout: Make, request_for: Make) -> None:
    pipeline.build(request_for(checkout("r2.1"), network="retinanet", workspace_size="8GiB"))


def test_the_root_of_the_results_repository_will_do(checkout: Make, request_for: Make) -> None:
    tree = checkout("r4.1")
    pipeline.build(request_for(tree, common_code=tree.root.parents[1]))


def test_scratch_space(checkout: Make, request_for: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tree = checkout("r4.1")
    pipeline.build(request_for(tree))  # links build/models
    monkeypatch.delenv("MLPERF_SCRATCH_PATH")
    assert pipeline.build(request_for(tree)).reused
    (tree.root / "build/models").unlink()
    with pytest.raises(ModelError, match=f"needs {tmp_path}/out/nvidia_scratch/models"):
        pipeline.build(request_for(tree))
    monkeypatch.setenv("MLPERF_SCRATCH_PATH", "/nowhere")
    with pytest.raises(OutputError, match="MLPERF_SCRATCH_PATH is /nowhere, which is not a folder"):
        pipeline.build(request_for(tree))


def test_wrong_flags_would_be_noticed(checkout: Make, tmp_path: Path) -> None:
    """The stand-ins refuse each other's batch sizes as the releases do: exit status 2 from make, no engine."""
    for generation, batch in (("r4.0", "resnet50:16"), ("r4.1", "16"), ("r5.0", "16"), ("r6.0", "16")):
        tree = checkout(generation)
        arguments = f"--benchmarks=resnet50 --scenarios=Offline --precision=int8 --gpu_batch_size={batch}"
        done = subprocess.run(
            ["make", "generate_engines", f"RUN_ARGS={arguments}"],
            cwd=tree.root,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert "component1" in done.stderr or "invalid int value" in done.stderr or "not in the format" in done.stderr
        assert not list(tree.root.rglob("*.plan"))


def test_version_before_the_checkout_is_known() -> None:
    with pytest.raises(MissingSoftwareError):
        CommonCodeBuilder().version()
    assert BuildRequest.from_values({"device": "cuda"}).builder == "common-code"
