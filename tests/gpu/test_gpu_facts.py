from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cmx4trt.backends.tensorrt import COMPUTE_CAPABILITIES
from cmx4trt.devices.driver import Device, check_workspace, local_gpu
from cmx4trt.errors import DeviceError

pytestmark = pytest.mark.gpu


def nvidia_smi(fields: str) -> list[str]:
    try:
        result = subprocess.run(
            ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"nvidia-smi cannot be asked: {error}")
    return [field.strip() for field in result.stdout.splitlines()[0].split(",")]


def test_facts_agree_with_nvidia_smi(device: Device) -> None:
    gpu = local_gpu()
    print(gpu.to_dict())
    name, memory_mib, driver, capability = nvidia_smi("name,memory.total,driver_version,compute_cap")
    assert (gpu.name, gpu.compute_capability) == (name, capability)
    assert gpu.driver in ("", driver)
    # CUDA's total leaves out what the driver reserves.
    assert 0.9 < gpu.memory_bytes / (int(memory_mib) << 20) <= 1.0
    assert gpu.visible >= 1


def test_memory_changes_by_what_is_allocated(device: Device) -> None:
    size = 1 << 30
    before = device.memory()
    with device.active("allocate"):
        allocation = device.allocate(size)
    used = before.free - device.memory().free
    with device.active("free"):
        allocation.free()
    assert size <= used <= size + (64 << 20)
    assert before.free <= before.total


def test_workspace_above_free_memory_is_refused(device: Device) -> None:
    memory = device.memory()
    check_workspace(1 << 30, device)
    with pytest.raises(DeviceError, match=r"workspace_size is \d+ MiB, expected at most \d+ MiB"):
        check_workspace(memory.total, device)


def build(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cmx4trt", "build", "--random_weights=1", f"--output_dir={tmp_path}", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    print(" ".join(arguments), "->", result.returncode, result.stderr.strip().splitlines()[-1:])
    return result


def test_tensorrt_rtx_is_refused_before_it_builds(device: Device, tmp_path: Path) -> None:
    if device.gpu.sm in COMPUTE_CAPABILITIES:
        pytest.skip(f"TensorRT-RTX runs on this GPU ({device.gpu.name})")
    result = build(tmp_path, "--device=cuda", "--builder=tensorrt-rtx")
    assert result.returncode == 9
    capability = device.gpu.compute_capability
    assert f"TensorRT-RTX does not run on compute capability {capability}" in result.stderr
    assert "use _tensorrt" in result.stderr
    assert not list(tmp_path.iterdir())


def test_tensorrt_where_it_is_not_installed(device: Device, tmp_path: Path) -> None:
    try:
        import tensorrt
    except ImportError:
        result = build(tmp_path, "--device=cuda", "--builder=tensorrt")
        assert result.returncode == 5
        assert "TensorRT is not installed in this Python; pip install" in result.stderr
        assert not list(tmp_path.iterdir())
    else:
        pytest.skip(f"TensorRT {tensorrt.__version__} is installed")


def test_hidden_gpus(device: Device, tmp_path: Path) -> None:
    result = build(tmp_path, "--device=cuda", "--builder=tensorrt-rtx", CUDA_VISIBLE_DEVICES="")
    assert result.returncode == 9
    assert "there is no usable NVIDIA GPU with CUDA_VISIBLE_DEVICES=''" in result.stderr
