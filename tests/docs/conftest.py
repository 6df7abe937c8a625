"""Folders in which the documents' commands find what they name, and the means to run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


def _load(path: Path) -> ModuleType:
    """A test module of another folder, which has no name to import it by."""
    spec = spec_from_file_location(f"docs_uses_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


_unit_fixtures = _load(ROOT / "tests" / "unit" / "conftest.py")
_builder_fixtures = _load(ROOT / "tests" / "unit" / "backends" / "common_code" / "conftest.py")
_cm_fixtures = _load(ROOT / "tests" / "cm" / "conftest.py")
_cm_runs = _load(ROOT / "tests" / "cm" / "test_cm_runs.py")
cm = _cm_fixtures.cm
rtx = _cm_fixtures.rtx
fake_pycuda, fake_tensorrt = _unit_fixtures.fake_pycuda, _unit_fixtures.fake_tensorrt
checkout, request_for = _builder_fixtures.checkout, _builder_fixtures.request_for


@dataclass(frozen=True)
class Desk:
    """A folder to type in, with the commands on the PATH and the files that documents name."""

    folder: Path
    environment: dict[str, str]

    def bash(self, text: str) -> subprocess.CompletedProcess[str]:
        """Run a script; stops at the first command that fails."""
        return self._run("bash", "-euo", "pipefail", "-c", text)

    def python(self, text: str) -> subprocess.CompletedProcess[str]:
        """Run a program with this package importable."""
        return self._run(sys.executable, "-c", text, PYTHONPATH=str(ROOT))

    def _run(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            cwd=self.folder,
            env={**self.environment, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all workers of a run: engines that one published are reused by the others."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "shared-by-documents"
    (folder / "engines").mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Network -> an ONNX file of its exact topology with random weights: what stands in for the MLPerf files."""
    from cmx4trt.ir.onnx_file import encode_model
    from cmx4trt.networks import model_from_seed

    folder, files = tmp_path_factory.mktemp("models"), {}
    for network in ("resnet50", "retinanet"):
        files[network] = folder / f"{network}.onnx"
        files[network].write_bytes(encode_model(model_from_seed(network, 0), None).message)
    return files


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six preprocessed images [3, 224, 224] float32 with labels."""
    folder, generator = tmp_path_factory.mktemp("images"), np.random.default_rng(1)
    for number in range(6):
        np.save(folder / f"val_{number}.JPEG.npy", generator.normal(0, 60, (3, 224, 224)).astype(np.float32))
    (folder / "val_map.txt").write_text("".join(f"val_{number}.JPEG {number}\n" for number in range(6)))
    return folder


@pytest.fixture(scope="session")
def typed_environment(
    cm: Any, rtx: None, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """CM with both models "downloaded", ``cmx4trt`` as a command, and a home folder of its own."""
    for network, row in _cm_runs.CACHED_MODELS.items():
        words = [sys.executable, "-c", _cm_runs.FILL_CACHE, *row, str(models[network])]
        subprocess.run(words, env=cm.environment, check=True)
    commands = tmp_path_factory.mktemp("bin")
    command = commands / "cmx4trt"
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m cmx4trt "$@"\n')
    command.chmod(0o755)
    path = ":".join([str(commands), str(Path(sys.executable).parent), "/usr/local/bin:/usr/bin:/bin"])
    return {**cm.environment, "PATH": path, "HOME": str(tmp_path_factory.mktemp("home")), "TERM": "dumb"}


@pytest.fixture
def desk(
    typed_environment: dict[str, str], shared_folder: Path, models: dict[str, Path], images: Path, tmp_path: Path
) -> Callable[..., Desk]:
    """Makes desks: a new folder each, with ``engines`` in common unless it is to be ``fresh``."""

    def make(fresh: bool = False) -> Desk:
        folder = tmp_path / f"desk{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        if not fresh:
            (folder / "engines").symlink_to(shared_folder / "engines")
        (folder / "images").symlink_to(images)
        for network, file in models.items():
            (folder / f"{network}.onnx").symlink_to(file)
        return Desk(folder, typed_environment)

    return make


@pytest.fixture(scope="session")
def calibration_cache(typed_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TensorRT calibration cache of the ResNet-50 in ``models``."""
    folder = tmp_path_factory.mktemp("cache")
    words = ("calibrate", "--random_weights=0", "--calibration_data=random", "--tensorrt_cache=calibrator.cache")
    done = Desk(folder, typed_environment).bash(f"cmx4trt {' '.join(words)}")
    assert done.returncode == 0, done.stdout
    return folder / "calibrator.cache"


@pytest.fixture(scope="session")
def contradictions() -> Callable[[Path], list[str]]:
    """What a manifest's or a result's schema has against a file."""
    from jsonschema import Draft202012Validator

    def find(file: Path) -> list[str]:
        name = "result" if file.name == "cmx4trt_result.json" else "manifest"
        schema = json.loads((ROOT / "docs" / "reference" / f"{name}.schema.json").read_text(encoding="utf-8"))
        found = Draft202012Validator(schema).iter_errors(json.loads(file.read_text(encoding="utf-8")))
        return [f"{file.name}: {'.'.join(map(str, error.absolute_path))}: {error.message[:300]}" for error in found]

    return find
