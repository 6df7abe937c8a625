"""What can go wrong around an engine, from the command line and from the GPU: one sentence each, and nothing is left behind."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cmx4trt.backends import backend_of
from cmx4trt.backends.hopper import Hopper, measure
from cmx4trt.backends.hopper.compiler import KERNELS, Compiler
from cmx4trt.backends.hopper.container import write_engine
from cmx4trt.backends.hopper.nvrtc import usable_nvrtc
from cmx4trt.backends.hopper.session import HopperSession
from cmx4trt.base.install import pip_line
from cmx4trt.cli import main
from cmx4trt.errors import DeviceError, MissingSoftwareError, ModelError

RANDOM = ("--random_weights=0", "--calibration_data=random", "--calibration_count=4")


def file_of(small: ModuleType) -> bytes:
    """An engine file; its weights are padded to what a file's header may describe."""
    return write_engine(replace(small.engine(), weights=small.weights() + bytes(1 << 17)))


@pytest.fixture
def failing_build(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """Exit code and sentence of a build that publishes nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*words: str) -> tuple[int, str]:
        folder = tmp_path / "engines"
        code = main(["build", "--builder=hopper", *RANDOM, *words, f"--output_dir={folder}"])
        (sentence,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cmx4trt: error: ")]
        assert not [path for path in folder.rglob("*") if path.is_file()]
        return code, sentence

    return run


def test_a_gpu_of_another_capability(
    failing_build: Callable[..., tuple[int, str]], gpu: Any, stand_in: Callable[..., None]
) -> None:
    gpu.facts = replace(gpu.facts, name="NVIDIA A100", capability=(8, 0))
    stand_in(Hopper(lambda index: gpu))
    code, sentence = failing_build("--device=cuda")
    assert code == 9
    assert "NVIDIA A100 has compute capability 8.0, and this engine runs on 9.0 only" in sentence


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DeviceError("there is no usable NVIDIA GPU (cuInit)"), 9),
        (MissingSoftwareError("cuda-bindings are missing"), 5),
    ],
)
def test_no_gpu_at_all(
    failing_build: Callable[..., tuple[int, str]], error: Exception, code: int, stand_in: Callable[..., None]
) -> None:
    def refuse(index: int) -> Any:
        raise error

    stand_in(Hopper(refuse))
    assert failing_build("--device=cuda") == (code, f"cmx4trt: error: {error}")


def test_no_compiler_is_installed(
    failing_build: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if "-packages" not in folder])
    code, sentence = failing_build()
    assert code == 5
    assert sentence.endswith(f"is not installed in this Python; {pip_line('hopper')}")


def test_the_compilers_library_is_gone(
    failing_build: Callable[..., tuple[int, str]], stand_in: Callable[..., None]
) -> None:
    stand_in(Hopper(new_compiler=lambda: Compiler(usable_nvrtc([]))))
    code, sentence = failing_build("--verify=no")
    assert code == 5
    assert "NVRTC 12.9 or newer, which compiles the kernels, is not installed (found: none)" in sentence


def test_a_kernel_does_not_compile(
    failing_build: Callable[..., tuple[int, str]], tmp_path: Path, stand_in: Callable[..., None]
) -> None:
    damaged = tmp_path / "kernels"
    shutil.copytree(KERNELS, damaged)
    (damaged / "stem.cu").write_text("".join(f"int x{i} = undefined_{i};\n" for i in range(40)))
    stand_in(Hopper(new_compiler=lambda: Compiler(folder=str(damaged))))
    code, sentence = failing_build("--verify=no")
    assert code == 6
    assert "could not compile stem_" in sentence
    assert "undefined_0" in sentence
    assert sentence.endswith("lines more"), "the log is shortened"
    assert len(sentence) < 3000


def test_damaged_engines_are_refused_before_the_gpu_is_asked(small: ModuleType, stand_in: Callable[..., None]) -> None:
    stand_in(Hopper(lambda index: pytest.fail("the GPU was asked")))
    file = file_of(small)
    edited = bytearray(file)
    edited[-1] ^= 1
    for data, words in (
        (file[:-1], "truncated or edited"),
        (bytes(edited), "was edited"),
        (b"", "does not start with an engine's signature"),
    ):
        with pytest.raises(ModelError, match=f"the engine is not a usable Hopper engine: .*{words}.*; build it again"):
            backend_of("hopper").open_session(data)


def test_too_little_memory_and_an_old_driver(small: ModuleType, gpu: Any, stand_in: Callable[..., None]) -> None:
    stand_in(Hopper(lambda index: gpu))
    file, facts = file_of(small), gpu.facts
    gpu.free_bytes = 100
    with pytest.raises(DeviceError, match="this engine needs 1 MiB, and NVIDIA H100 80GB HBM3 has 0 MiB free"):
        backend_of("hopper").open_session(file)
    gpu.facts = replace(facts, cuda=11080, driver="520.61.05")
    with pytest.raises(DeviceError, match="install driver 525 or newer"):
        backend_of("hopper").open_session(file)
    assert gpu.held() == {}


@pytest.mark.parametrize("method", ["launch_graph", "synchronize_event", "launch", "record"])
def test_a_gpu_that_is_lost_while_it_is_measured(small: ModuleType, gpu: Any, method: str) -> None:
    session = HopperSession(small.engine(), gpu)
    gpu.fail[method] = "CUDA_ERROR_ECC_UNCORRECTABLE"
    for later in ("free", "free_pinned", "free_stream", "free_event", "free_graph", "unload"):
        gpu.fail[later] = "CUDA_ERROR_UNKNOWN"
    with pytest.raises(DeviceError, match=r"its memory has an uncorrectable error \(") as caught:
        measure.measure(session, seconds=0.0)
    assert f"{method} reports CUDA_ERROR_ECC_UNCORRECTABLE" in str(caught.value), (
        "the first error, not what it leads to"
    )
    session.close()
