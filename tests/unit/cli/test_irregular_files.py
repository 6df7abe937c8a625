"""A pipe, a device or a socket in place of any file that is read: refused at once, in one sentence, never waited for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cmx4trt.cli import main
from cmx4trt.errors import OutputError

pytestmark = pytest.mark.timeout(60)

Line = Callable[[Path, Path], list[str]]


def int8(*flags: str) -> list[str]:
    return ["build", "--random_weights=1", "--precision=int8", "--verify=no", "--report=no", *flags]


def images(folder: Path) -> Path:
    (folder / "images").mkdir()
    for number in range(4):
        np.zeros((3, 224, 224), np.float32).tofile(folder / "images" / f"{number}.bin")
    return folder / "images"


BUILDS: dict[str, Line] = {
    "model": lambda pipe, folder: ["build", f"--model={pipe}"],
    "calibration_cache": lambda pipe, folder: int8(f"--calibration_cache={pipe}"),
    "calibration_data": lambda pipe, folder: int8(f"--calibration_data={pipe}"),
    "an image of calibration_data": lambda pipe, folder: int8(f"--calibration_data={pipe.parent}"),
    "calibration_list": lambda pipe, folder: int8(f"--calibration_data={images(folder)}", f"--calibration_list={pipe}"),
    "request": lambda pipe, folder: ["build", "--random_weights=1", f"--request={pipe}"],
    "evaluation": lambda pipe, folder: ["build", "--random_weights=1", f"--evaluation={pipe}"],
}
"""The command line for a pipe, in a folder of its own, and another folder."""


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    (tmp_path / "pipes").mkdir()
    os.mkfifo(tmp_path / "pipes" / "pipe.bin")
    return tmp_path / "pipes" / "pipe.bin"


@pytest.fixture
def small_engine(publish_small: Callable[..., Path], tmp_path: Path) -> Callable[[], Path]:
    return lambda: publish_small(tmp_path / "engines")


@pytest.mark.parametrize("what", BUILDS)
def test_builds(what: str, pipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = BUILDS[what](pipe, tmp_path)
    assert main([*line, f"--output_dir={tmp_path / 'out'}"]) in (2, 3, 8)
    sentence = capsys.readouterr().err
    assert "not a regular file" in sentence
    assert str(pipe) in sentence
    assert not (tmp_path / "out").exists()


def test_external_weights(resnet50_file: Path, pipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import onnx

    model = pipe.parent / "m.onnx"
    onnx.save(onnx.load(resnet50_file), model, save_as_external_data=True, location="m.bin", size_threshold=1024)
    (pipe.parent / "m.bin").unlink()
    pipe.rename(pipe.parent / "m.bin")
    assert main(["build", f"--model={model}", f"--output_dir={tmp_path / 'out'}"]) == 3
    assert f"cannot read model file {pipe.parent / 'm.bin'}: not a regular file" in capsys.readouterr().err


EVALUATIONS: dict[str, Line] = {
    "user_conf": lambda pipe, engine: ["bench", str(engine), "--execute=graph", f"--user_conf={pipe}"],
    "labels": lambda pipe, engine: ["verify", str(engine), f"--data={images(pipe.parent.parent)}", f"--labels={pipe}"],
    "data": lambda pipe, engine: ["verify", str(engine), f"--data={pipe}"],
}


@pytest.mark.parametrize("what", EVALUATIONS)
def test_proofs(what: str, pipe: Path, small_engine: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mlperf_loadgen", reason="LoadGen is not installed (pip install 'cmx4trt[bench]')")
    assert main(EVALUATIONS[what](pipe, small_engine())) in (2, 8)
    sentence = capsys.readouterr().err
    assert str(pipe) in sentence
    assert ("is not a folder" if what == "data" else "not a regular file") in sentence


@pytest.mark.parametrize("command", ["inspect", "verify", "bench", "report"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_manifests(
    command: str, kind: str, small_engine: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = small_engine().with_suffix(".json")
    manifest.unlink()
    if kind == "pipe":
        os.mkfifo(manifest)
    else:
        manifest.symlink_to("/dev/zero")
    assert main([command, str(manifest)]) == 3
    assert f"cannot read manifest {manifest}: not a regular file" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".json", ".plan"])
def test_nothing_but_a_file_is_replaced(suffix: str, small_engine: Callable[..., Path]) -> None:
    path = small_engine().with_suffix(suffix)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OutputError, match="what is there is not a regular file"):
        small_engine()
    path.unlink()
    assert small_engine().read_bytes()
