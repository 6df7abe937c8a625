"""An engine, images, and the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmx4trt.pipeline.build import build
from cmx4trt.requests.build import BuildRequest

Run = Callable[..., tuple[int, str, dict[str, Any]]]


@pytest.fixture(scope="session")
def engine(tensorrt_rtx: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-50 engine, float32, batch 4; not to be changed."""
    folder = tmp_path_factory.mktemp("engines")
    values = {"random_weights": 3, "precision": "fp32", "batch_size": 4, "verify": False, "output_dir": str(folder)}
    return Path(build(BuildRequest.from_values(values)).engine)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six preprocessed images and their labels, of which most are wrong."""
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(1)
    for number in range(6):
        np.save(folder / f"val_{number}.JPEG.npy", generator.normal(0, 60, (3, 224, 224)).astype(np.float32))
    (folder / "val_map.txt").write_text("".join(f"val_{number}.JPEG {number}\n" for number in range(6)))
    return folder


@pytest.fixture
def cmx4trt(cmx4trt: Run, tmp_path: Path) -> Run:
    """The same, always with the result file."""
    return lambda *arguments: cmx4trt(*arguments, f"--result={tmp_path / 'result.json'}")


@pytest.fixture
def copied(engine: Path, tmp_path: Path) -> Path:
    """A copy of the engine and its manifest, to be changed."""
    for suffix in (".plan", ".json"):
        shutil.copy2(engine.with_suffix(suffix), tmp_path)
    return tmp_path / engine.name


@pytest.fixture
def detector(copied: Path) -> Path:
    """An engine that is said to be RetinaNet's; what it computes comes from a session of the test."""
    manifest = json.loads(copied.with_suffix(".json").read_text())
    manifest["request"]["network"] = "retinanet"
    copied.with_suffix(".json").write_text(json.dumps(manifest))
    return copied
