"""Clock, power, temperature and PCIe link of a GPU, from NVIDIA's management library (NVML), which comes with the driver."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

_LIBRARY = "libnvidia-ml.so.1"
_CLOCK_SM, _TEMPERATURE_GPU = 1, 0
"""NVML_CLOCK_SM and NVML_TEMPERATURE_GPU (NVML API reference)."""


_REASONS = {
    0x4: "its power limit",
    0x8: "a hardware slowdown",
    0x20: "its temperature",
    0x40: "its temperature",
    0x80: "a power brake",
}
"""Bits of nvmlClocksEventReasons that throttle a busy GPU; the others are settings of users and displays."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a GPU, and its current and best PCIe link."""

    sm_clock_mhz: int
    power_watts: float
    link_generation: int
    link_width: int
    best_link_generation: int
    best_link_width: int

    def to_dict(self) -> dict[str, Any]:
        """For results."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Readings:
    """The state of a GPU at one moment."""

    sm_clock_mhz: int
    watts: float
    celsius: int

    def to_dict(self) -> dict[str, Any]:
        """For results."""
        return asdict(self)


class Nvml:
    """The readings of one GPU."""

    def __init__(self, library: Any, pci_bus_id: str) -> None:
        """Uses the loaded ``library``. Raises OSError if it does not know the GPU."""
        self._library = library
        self._device = ctypes.c_void_p()
        self._call("nvmlInit_v2")
        self._call("nvmlDeviceGetHandleByPciBusId_v2", pci_bus_id.encode(), ctypes.byref(self._device))

    def read(self) -> Readings:
        """The current state. Raises OSError."""
        return Readings(
            sm_clock_mhz=self._number("nvmlDeviceGetClockInfo", _CLOCK_SM),
            watts=self._number("nvmlDeviceGetPowerUsage") / 1000,
            celsius=self._number("nvmlDeviceGetTemperature", _TEMPERATURE_GPU),
        )

    def limits(self) -> Limits:
        """The limits of the GPU, and its current link, which idle GPUs run slowly. Raises OSError."""
        return Limits(
            sm_clock_mhz=self._number("nvmlDeviceGetMaxClockInfo", _CLOCK_SM),
            power_watts=self._number("nvmlDeviceGetEnforcedPowerLimit") / 1000,
            link_generation=self._number("nvmlDeviceGetCurrPcieLinkGeneration"),
            link_width=self._number("nvmlDeviceGetCurrPcieLinkWidth"),
            best_link_generation=self._number("nvmlDeviceGetMaxPcieLinkGeneration"),
            best_link_width=self._number("nvmlDeviceGetMaxPcieLinkWidth"),
        )

    def held_down_by(self) -> frozenset[str]:
        """What currently keeps the clock below its maximum, in words. Raises OSError."""
        bits = ctypes.c_ulonglong()
        self._call("nvmlDeviceGetCurrentClocksThrottleReasons", self._device, ctypes.byref(bits))
        return frozenset(words for bit, words in _REASONS.items() if bits.value & bit)

    def _number(self, function: str, *selection: int) -> int:
        number = ctypes.c_uint()
        self._call(function, self._device, *selection, ctypes.byref(number))
        return number.value

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._library, function)(*arguments)
        if status != 0:
            raise OSError(f"{function} failed with status {status}")


def open_nvml(pci_bus_id: str, load: Callable[[], Any] = lambda: ctypes.CDLL(_LIBRARY)) -> Nvml | None:
    """The GPU at a PCI address, or None if NVML is missing or does not list it (some containers, MIG).

    ``load``: the library. Raises OSError.
    """
    try:
        return Nvml(load(), pci_bus_id)
    except (OSError, AttributeError):
        return None
