"""Folders in which the documents' commands find what they name, and the means to run them."""

from __future__ import annotations

import json
import lzma
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from cmx4trt import networks

ROOT = Path(__file__).resolve().parents[2]
EXPORTED = Path(os.environ.get("CMX4TRT_SHARED", ROOT.parent / "shared")) / "fixtures" / "retinanet_torchvision.onnx.xz"
"""torchvision's RetinaNet as torch exports it; too large for the repository."""


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


SHORT_RUN = """case "$*" in
bench*--count*|bench*--duration*|bench*--rules*|bench*--mode*) ;;
bench*--scenario*) set -- "$@" --count=32 ;;
esac
"""
"""A run of LoadGen that a document gives no length lasts ten seconds on all processors; this one says the same."""


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
        return self._run(
            sys.executable, "-c", text, PYTHONPATH=f"{ROOT}:{self.environment.get('PYTHONPATH', '')}".rstrip(":")
        )

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


@dataclass(frozen=True)
class Place:
    """What there is before anything is typed: the environment, engines in common, images with labels, models by network."""

    environment: dict[str, str]
    engines: Path
    images: Path
    models: dict[str, Path]

    def desk(self, folder: Path, fresh: bool = False) -> Desk:
        """A new folder to type in, with ``engines`` in common unless it is to be ``fresh``."""
        folder.mkdir()
        links = {"images": self.images, **{f"{network}.onnx": file for network, file in self.models.items()}}
        for name, target in (links if fresh else {**links, "engines": self.engines}).items():
            (folder / name).symlink_to(target)
        return Desk(folder, self.environment)


MakeFolder = Callable[[str], Path]


def engines_of_all_workers(factory: pytest.TempPathFactory, name: str) -> Path:
    """One folder for all workers of a run: engines that one published are reused by the others."""
    base = factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_models(folder: Path, *networks: str) -> dict[str, Path]:
    """Network -> an ONNX file of its exact topology with random weights: what stands in for the MLPerf files."""
    from cmx4trt.ir.onnx_file import encode_model
    from cmx4trt.networks import model_from_seed

    files = {network: folder / f"{network}.onnx" for network in networks}
    for network, file in files.items():
        file.write_bytes(encode_model(model_from_seed(network, 0), None).message)
    return files


def write_images(folder: Path, size: int) -> Path:
    """Six preprocessed images [3, size, size] float32 with labels."""
    generator = np.random.default_rng(1)
    for number in range(6):
        np.save(folder / f"val_{number}.JPEG.npy", generator.normal(0, 60, (3, size, size)).astype(np.float32))
    (folder / "val_map.txt").write_text("".join(f"val_{number}.JPEG {number}\n" for number in range(6)))
    return folder


def typed_environment(cm: Any, models: dict[str, Path], make: MakeFolder) -> dict[str, str]:
    """CM with the models "downloaded", ``cmx4trt`` as a command, and a home folder of its own."""
    for network, file in models.items():
        words = [sys.executable, "-c", _cm_runs.FILL_CACHE, *_cm_runs.CACHED_MODELS[network], str(file)]
        subprocess.run(words, env=cm.environment, check=True)
    commands = make("bin")
    command = commands / "cmx4trt"
    paths = f"{ROOT}${{PYTHONPATH:+:$PYTHONPATH}}"
    command.write_text(f'#!/bin/sh\n{SHORT_RUN}PYTHONPATH="{paths}" exec "{sys.executable}" -m cmx4trt "$@"\n')
    command.chmod(0o755)
    path = ":".join([str(commands), str(Path(sys.executable).parent), "/usr/local/bin:/usr/bin:/bin"])
    return {**cm.environment, "PATH": path, "HOME": str(make("home")), "TERM": "dumb"}


@pytest.fixture(scope="session")
def place(cm: Any, rtx: None, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Where ResNet-50 and RetinaNet are what they are."""
    make = tmp_path_factory.mktemp
    models = write_models(make("models"), "resnet50", "retinanet")
    if EXPORTED.is_file():  # a file as users have it: read, built and verified whole
        models["retinanet"].write_bytes(lzma.decompress(EXPORTED.read_bytes()))
    engines = engines_of_all_workers(tmp_path_factory, "engines-of-documents")
    return Place(typed_environment(cm, models, make), engines, write_images(make("images"), 224), models)


@pytest.fixture(scope="session")
def small_place(rtx: None, small_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Where ResNet-50 is a small network, in a CM of its own."""
    make = tmp_path_factory.mktemp
    cm = _cm_fixtures.make_cm(make("small-cm-home"))
    small = type(cm)(cm.home, {**cm.environment, **small_environment})
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(small_environment["PYTHONPATH"])
        with networks.registered(*import_module(small_environment["CMX4TRT_NETWORKS"]).NETWORKS):
            models = write_models(make("small-models"), "resnet50")
    engines = engines_of_all_workers(tmp_path_factory, "small-engines-of-documents")
    return Place(typed_environment(small, models, make), engines, write_images(make("small-images"), 32), models)


@pytest.fixture(scope="session")
def calibration_cache(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TensorRT calibration cache of the ResNet-50 in ``place``."""
    desk = place.desk(tmp_path_factory.mktemp("cache") / "desk", fresh=True)
    words = ("calibrate", "--random_weights=0", "--calibration_data=random", "--tensorrt_cache=calibrator.cache")
    done = desk.bash(f"cmx4trt {' '.join(words)}")
    assert done.returncode == 0, done.stdout
    return desk.folder / "calibrator.cache"


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
