from __future__ import annotations

import builtins
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cmx4trt.backends.tensorrt.rtx import check_gpu
from cmx4trt.devices import driver as cuda
from cmx4trt.errors import DeviceError, MissingSoftwareError


def test_facts(fake_pycuda: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "version").write_text("580.159.04\n")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    gpu = cuda.local_gpu(0, str(tmp_path / "version"))
    assert gpu.to_dict() == {
        "name": "NVIDIA Fake 5090",
        "compute_capability": "12.0",
        "multiprocessors": 170,
        "memory_bytes": 32 << 30,
        "mig": False,
        "visible": 1,
        "visible_devices": "2",
        "cuda": "13.0",
        "driver": "580.159.04",
    }
    assert gpu.sm == "sm120"
    assert gpu.identity()["driver"] == "580.159.04"


def test_without_a_driver_version_the_cuda_version_stands_for_it(fake_pycuda: ModuleType) -> None:
    gpu = cuda.local_gpu(0, "/nowhere/version")
    assert (gpu.driver, gpu.identity()["driver"]) == ("", "13.0")


@pytest.mark.parametrize(
    ("name", "mig"),
    [("NVIDIA A100-SXM4-40GB MIG 1g.5gb", True), ("NVIDIA H200", False), ("NVIDIA MIGHTY", False)],
)
def test_mig_is_seen_in_the_name(fake_pycuda: Any, name: str, mig: bool) -> None:
    fake_pycuda.DEVICE.name = name
    assert cuda.local_gpu().mig is mig


def test_no_device(fake_pycuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pycuda.DEVICE.count = 0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(DeviceError, match=r"no usable NVIDIA GPU with CUDA_VISIBLE_DEVICES='' .*_cpu builds"):
        cuda.local_gpu()


def test_gpus_are_opened_by_number(fake_pycuda: Any) -> None:
    fake_pycuda.DEVICE.count = 2
    first, second = (cuda.open_device(index) for index in range(2))
    assert (first.placement.pci_bus_id, second.placement.pci_bus_id) == ("0000:10:00.0", "0000:11:00.0")
    assert second.title == "GPU 1 (NVIDIA Fake 5090)"
    assert cuda.open_device(1) is second
    with pytest.raises(DeviceError, match="could not copy on GPU 1"), second.active("copy"):
        raise fake_pycuda.LogicError("no")
    with pytest.raises(DeviceError, match="there is no GPU 2 here; the driver reports GPUs 0 to 1"):
        cuda.open_device(2)


def test_cuinit_fails(fake_pycuda: Any) -> None:
    fake_pycuda.init_error = fake_pycuda.RuntimeError("cuInit failed: no CUDA-capable device is detected")
    with pytest.raises(DeviceError, match=r"no usable NVIDIA GPU \(cuInit failed: no CUDA-capable"):
        cuda.open_device()


def fail_import(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    real = builtins.__import__

    def importing(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("pycuda"):
            raise ImportError(reason)
        return real(name, *arguments, **options)

    for module in [m for m in sys.modules if m.split(".")[0] == "pycuda"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", importing)
    cuda.local_gpu.cache_clear()


def test_no_pycuda_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: None)
    fail_import(monkeypatch, "No module named 'pycuda'")
    with pytest.raises(MissingSoftwareError, match=r"which is needed to use the GPU.*; pip install .*\[cuda\]'$"):
        cuda.local_gpu()


@pytest.mark.parametrize(
    "said", ["No module named 'pycuda'", "libcuda.so.1: cannot open shared object file: No such file or directory"]
)
def test_no_gpu(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    """Whether pycuda is there or not: to install it would change nothing."""

    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", missing)
    fail_import(monkeypatch, said)
    with pytest.raises(DeviceError) as caught:
        cuda.local_gpu()
    cause = "this machine has no NVIDIA GPU with a driver: libcuda.so.1: cannot open shared object file"
    assert str(caught.value) == f"{cause}; _cpu builds without one"
    assert caught.value.cause == cause, "what verify and bench say"


def test_workspace_within_free_memory(fake_pycuda: Any) -> None:
    device = cuda.open_device()
    cuda.check_workspace(fake_pycuda.DEVICE.free, device)
    with pytest.raises(DeviceError) as caught:
        cuda.check_workspace(fake_pycuda.DEVICE.free + (1 << 20), device)
    assert str(caught.value) == (
        "workspace_size is 30721 MiB, expected at most 30720 MiB, the free memory of NVIDIA Fake 5090 "
        "(32768 MiB in total); give --workspace_size=30720MiB or less"
    )


def test_errors_name_what_was_done_and_leave_no_context(fake_pycuda: Any) -> None:
    device = cuda.open_device()
    with (
        pytest.raises(DeviceError, match="could not allocate buffers on NVIDIA Fake 5090: cuMemAlloc failed"),
        device.active("allocate buffers"),
    ):
        device.allocate(1 << 50)


def test_pinned_memory_is_told_from_other(fake_pycuda: Any) -> None:
    import numpy as np

    device = cuda.open_device()
    array = device.pinned((4, 6), "float32")
    assert (array.shape, array.dtype) == ((4, 6), np.float32)
    assert device.is_pinned(array)
    assert device.is_pinned(array[1:3])
    assert not device.is_pinned(array[:, 1:3])  # not contiguous
    assert not device.is_pinned(np.zeros((4, 6), np.float32))


@pytest.mark.parametrize("capability", ["9.0", "10.0", "8.7", "7.0"])
def test_tensorrt_rtx_is_refused_where_it_does_not_run(fake_pycuda: Any, capability: str) -> None:
    major, minor = capability.split(".")
    fake_pycuda.DEVICE.compute_capability = (int(major), int(minor))
    served = "no builder of this release supports it" if capability == "7.0" else "use _cuda,_tensorrt .*"
    with pytest.raises(
        DeviceError,
        match=rf"does not run on compute capability {capability} .*; {served}; _cpu builds for other GPUs",
    ):
        check_gpu(cuda.local_gpu())


def test_tensorrt_rtx_gpus_pass(fake_pycuda: Any) -> None:
    check_gpu(cuda.local_gpu())
