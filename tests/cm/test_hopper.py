"""``_hopper`` through the real ``cmr``: a build without a GPU, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from cmx4trt.backends.hopper.container import read_engine

ROOT = Path(__file__).resolve().parents[2]
RANDOM = ("--calibration_data=random", "--calibration_count=4")


@pytest.mark.slow
def test_an_engine_is_built_without_a_gpu(cm: Any, folder: Path) -> None:
    answer = cm.result("_hopper _int8 _random-weights", *RANDOM, "--verify=no", "--report=no", cwd=folder)
    assert answer["return"] == 0, answer
    env = answer["new_env"]
    assert (env["CM_MLPERF_ENGINE_BUILDER"], env["CM_MLPERF_ENGINE_PRECISION"]) == ("hopper", "int8")
    assert env["CM_MLPERF_ENGINE_TARGET"] == "sm90"
    assert answer["deps"] == ["detect,os", "detect,cpu"]
    path = Path(env["CM_MLPERF_ENGINE_FILE_WITH_PATH"])
    assert path.is_relative_to(folder)
    engine = read_engine(path.read_bytes(), str(path))
    assert len(engine.cubins) > 10
    assert path.stat().st_size <= 1.1 * memoryview(engine.weights).nbytes + 4e6
    manifest = json.loads(Path(env["CM_MLPERF_ENGINE_MANIFEST_WITH_PATH"]).read_text())
    assert manifest["builder"]["compiler"].startswith("NVRTC ")
    assert len(manifest["builder"]["launches"]) == len(engine.plan.program(1).launches)


@pytest.mark.parametrize(
    ("tags", "flags", "code", "sentence"),
    [
        ("_hopper _fp16 _random-weights", (), 2, "precision is fp16, expected int8 with the builder hopper"),
        (
            "_hopper _retinanet _random-weights",
            (),
            2,
            "network is retinanet, expected resnet50 with the builder hopper",
        ),
        ("_hopper _random-weights", ("--target=ada",), 2, "which the builder hopper does not support"),
        ("_hopper _random-weights", ("--kernel_choices=none.json",), 8, "none.json is not a table of measured kernels"),
        ("_random-weights", ("--kernel_choices=none.json",), 2, "kernel_choices is for the builder hopper"),
    ],
)
def test_what_it_cannot_build_is_refused(
    cm: Any, folder: Path, tags: str, flags: tuple[str, ...], code: int, sentence: str
) -> None:
    done = cm.cmr(tags, *RANDOM if "_hopper" in tags else (), *flags, "--dry_run=yes", cwd=folder)
    assert sentence in done.stdout
    assert done.returncode == code, done.stdout
    assert "Traceback" not in done.stdout
    assert list(folder.iterdir()) == []


def test_no_toolkit_is_asked_for_on_a_gpu() -> None:
    """CM's get,cuda wants nvcc, and pycuda a compiler."""
    meta = yaml.safe_load((ROOT / "_cm.yaml").read_text(encoding="utf-8"))
    for row in meta["deps"]:
        if row.get("enable_if_env", {}).get("CM_MLPERF_DEVICE") == ["gpu"]:
            assert row["skip_if_any_env"]["CMX4TRT_BUILDER"] == ["hopper"], row["tags"]
