"""An engine, images, and the command line."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmx4trt.cli import main
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
def cmx4trt(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs a command in this process: exit code, everything printed, the result file."""

    def run(*arguments: object) -> tuple[int, str, dict[str, Any]]:
        result = tmp_path / "result.json"
        result.unlink(missing_ok=True)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            code = main([*map(str, arguments), f"--result={result}"])
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        captured = capsys.readouterr()
        return code, captured.out + captured.err, json.loads(result.read_text()) if result.exists() else {}

    return run


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
