"""CUDA driver errors as one sentence: what failed, why, what to do."""

from __future__ import annotations

import os

from cmx4trt.errors import DeviceError

VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"
"""Environment variable that hides and orders GPUs (CUDA C++ Programming Guide, "CUDA Environment Variables")."""

NOT_IN_DRIVER = "that the driver lacks this function"
"""The pseudo-status of a function that does not exist."""
_UPDATE = "update NVIDIA's driver"
_LOST = "see the Xid messages in the kernel log (dmesg), then reset the GPU or restart the machine"
_MEANINGS = {
    "CUDA_ERROR_OUT_OF_MEMORY": (
        "it is out of memory",
        "use a smaller batch or fewer copy streams, or stop other processes that use it",
    ),
    "CUDA_ERROR_NO_BINARY_FOR_GPU": (
        "the engine contains no kernel for this GPU",
        "build the engine for this GPU",
    ),
    "CUDA_ERROR_INVALID_IMAGE": ("its driver does not support the format of the kernels", _UPDATE),
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": ("its driver does not support the format of the kernels", _UPDATE),
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": (
        "libcuda and the kernel module have different versions",
        "restart the machine",
    ),
    "CUDA_ERROR_ILLEGAL_ADDRESS": ("a kernel made an illegal memory access", "restart the process"),
    "CUDA_ERROR_MISALIGNED_ADDRESS": ("a kernel used a misaligned address", "restart the process"),
    "CUDA_ERROR_ILLEGAL_INSTRUCTION": ("a kernel hit an illegal instruction", "restart the process"),
    "CUDA_ERROR_LAUNCH_FAILED": ("a kernel failed", "restart the process"),
    "CUDA_ERROR_LAUNCH_TIMEOUT": ("a kernel took longer than the driver allows", "restart the process"),
    "CUDA_ERROR_ECC_UNCORRECTABLE": ("its memory has an uncorrectable error", _LOST),
    "CUDA_ERROR_NO_DEVICE": ("the GPU is no longer accessible", _LOST),
    "CUDA_ERROR_DEVICE_UNAVAILABLE": ("the GPU is lost or in exclusive use by another process", _LOST),
    "CUDA_ERROR_DEINITIALIZED": ("the driver is shutting down", "restart the process"),
    "CUDA_ERROR_SYSTEM_NOT_READY": ("its driver is not ready", "check that nvidia-fabricmanager is running"),
    "CUDA_ERROR_NVLINK_UNCORRECTABLE": ("its NVLink has an uncorrectable error", _LOST),
    NOT_IN_DRIVER: ("the driver is too old", "install driver 525 or newer"),
    "CUDA_ERROR_UNKNOWN": ("the driver reports an unknown error; the GPU may be lost", _LOST),
}
"""Driver status -> its meaning, what to do."""


class CudaFailure(Exception):  # noqa: N818
    """A driver status other than success, before it is known what the caller was doing."""

    def __init__(self, function: str, status: str) -> None:
        super().__init__(f"{function}: {status}")
        self.function = function
        self.status = status


def device_error(doing: str, failure: CudaFailure) -> DeviceError:
    """The error for ``failure`` while ``doing`` something."""
    reason = f"{failure.function} reports {failure.status}"
    if failure.status not in _MEANINGS:
        return DeviceError(f"could not {doing}: {reason}")
    meaning, remedy = _MEANINGS[failure.status]
    return DeviceError(f"could not {doing}: {meaning} ({reason}); {remedy}")


def no_device(reason: str) -> str:
    """The error for a machine without a usable GPU."""
    hidden = os.environ.get(VISIBLE_DEVICES)
    hint = f" with {VISIBLE_DEVICES}='{hidden}'" if hidden is not None else ""
    return f"there is no usable NVIDIA GPU{hint} ({reason}); _cpu builds without one"


def no_such_device(index: int, count: int) -> str:
    """The error for a GPU that does not exist."""
    known = "GPU 0" if count == 1 else f"GPUs 0 to {count - 1}"
    return (
        f"there is no GPU {index} here; the driver reports {known}: give others with --gpus, or make more visible with "
        f"{VISIBLE_DEVICES}"
    )
