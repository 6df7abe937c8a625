"""An engine in memory: plan, compiled kernels, packed weights, and their provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cmx4trt.backends.hopper.cubin import LEAST, Least, elf_abi
from cmx4trt.errors import DeviceError

if TYPE_CHECKING:
    from cmx4trt.backends.hopper.plan import Plan
    from cmx4trt.devices.base import DeviceFacts

CAPABILITY = (9, 0)
"""The compute capability of the kernels: sm_90a, which no other GPU can run."""


@dataclass(frozen=True, slots=True)
class Engine:
    """Everything that a session needs."""

    plan: Plan
    cubins: Mapping[str, Any]
    """Kernel name -> its cubin (bytes or a view of them)."""
    weights: Any
    """The packed weights (bytes or a view of them), into which places of the plan point."""
    copy_streams: int = 1
    origin: Mapping[str, str] = field(default_factory=dict)
    """The compiler and its version, and the SHA-256 of the model and of the calibration."""

    @property
    def least(self) -> Least:
        """The oldest driver that loads all kernels."""
        abis = [abi for cubin in self.cubins.values() if (abi := elf_abi(cubin)) is not None]
        return LEAST[max(abis, default=min(LEAST))]


def check_capability(facts: DeviceFacts) -> None:
    """Reject a GPU that the kernels do not support. Raises DeviceError."""
    if facts.capability != CAPABILITY:
        raise DeviceError(
            f"{facts.name} has compute capability {_version(facts.capability)}, and this engine runs on "
            f"{_version(CAPABILITY)} only (H100, H200); build one for this GPU with --builder=tensorrt-rtx or tensorrt"
        )


def check_device(engine: Engine, facts: DeviceFacts) -> None:
    """Reject a GPU or a driver that cannot run an engine. Raises DeviceError."""
    check_capability(facts)
    least = engine.least
    if facts.cuda < least.cuda:
        raise DeviceError(
            f"the driver {facts.driver + ' ' if facts.driver else ''}of {facts.name} supports CUDA "
            f"{_version(_cuda_version(facts.cuda))}, and this engine needs {_version(_cuda_version(least.cuda))}; "
            f"install driver {least.driver} or newer"
        )


def check_memory(needed: int, free: int, facts: DeviceFacts) -> None:
    """Reject an engine that does not fit into memory, before anything is allocated. Raises DeviceError."""
    if needed > free:
        raise DeviceError(
            f"this engine needs {_mib(needed)} MiB, and {facts.name} has {free >> 20} MiB free of its "
            f"{facts.memory_bytes >> 20} MiB; build it for a smaller batch or fewer copy streams, or stop other processes on it"
        )


def _cuda_version(number: int) -> tuple[int, int]:
    return number // 1000, number % 1000 // 10


def _version(numbers: tuple[int, int]) -> str:
    return "{}.{}".format(*numbers)


def _mib(size: int) -> int:
    return -(-size // (1 << 20))
