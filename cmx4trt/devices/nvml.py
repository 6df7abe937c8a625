"""Clock, power and temperature of a GPU, from NVIDIA's management library (NVML), which comes with the driver."""

from __future__ import annotations

import ctypes
from dataclasses import asdict, dataclass
from typing import Any

_LIBRARY = "libnvidia-ml.so.1"
_CLOCK_SM, _TEMPERATURE_GPU = 1, 0
"""NVML_CLOCK_SM and NVML_TEMPERATURE_GPU (NVML API reference)."""


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
        """With the loaded ``library``. Raises OSError where it does not know the GPU."""
        self._library = library
        self._device = ctypes.c_void_p()
        self._call("nvmlInit_v2")
        self._call("nvmlDeviceGetHandleByPciBusId_v2", pci_bus_id.encode(), ctypes.byref(self._device))

    def read(self) -> Readings:
        """The state now. Raises OSError."""
        return Readings(
            sm_clock_mhz=self._number("nvmlDeviceGetClockInfo", _CLOCK_SM),
            watts=self._number("nvmlDeviceGetPowerUsage") / 1000,
            celsius=self._number("nvmlDeviceGetTemperature", _TEMPERATURE_GPU),
        )

    def _number(self, function: str, *selection: int) -> int:
        number = ctypes.c_uint()
        self._call(function, self._device, *selection, ctypes.byref(number))
        return number.value

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._library, function)(*arguments)
        if status != 0:
            raise OSError(f"{function} failed with status {status}")


def open_nvml(pci_bus_id: str) -> Nvml | None:
    """The GPU at a PCI address, or None where NVML is absent or does not show it (some containers, MIG)."""
    try:
        return Nvml(ctypes.CDLL(_LIBRARY), pci_bus_id)
    except (OSError, AttributeError):
        return None
