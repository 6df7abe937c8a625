"""TensorRT-RTX where it is missing, and on GPUs that it does not support."""

from __future__ import annotations

import sys

import pytest

from cmx4trt.backends import backend_of
from cmx4trt.backends.tensorrt.rtx import DISTRIBUTIONS, TensorRTRTXBuilder, check_gpu, import_tensorrt_rtx
from cmx4trt.devices.driver import Gpu
from cmx4trt.errors import DeviceError, MissingSoftwareError
from cmx4trt.requests.build import BuildRequest


def gpu(capability: str) -> Gpu:
    return Gpu("Card", capability, 60, 1 << 33, False, 1, None, "12.8", "570.86")


def test_the_version_is_known_without_the_library(tensorrt_rtx: str) -> None:
    identity = TensorRTRTXBuilder().identity(BuildRequest.from_values({"random_weights": 0}))
    assert identity == {"name": "tensorrt-rtx", "version": tensorrt_rtx}
    assert tensorrt_rtx.split(".")[0].isdigit()


def test_loading_a_library_that_is_missing_is_left_to_the_builder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    backend_of("tensorrt-rtx").load()
    with pytest.raises(MissingSoftwareError, match=r"TensorRT-RTX is not installed in this Python; .*\[rtx\]"):
        import_tensorrt_rtx()


def test_a_gpu_that_runs_none_of_its_engines_is_refused() -> None:
    check_gpu(gpu("8.9"))
    with pytest.raises(
        DeviceError, match=r"does not run on compute capability 9.0 \(Card\), only on sm75, sm80, .*hopper"
    ):
        check_gpu(gpu("9.0"))


def test_distributions_are_named_as_their_metadata_folders() -> None:
    assert all(name == name.lower().replace("-", "_") for name in DISTRIBUTIONS)
