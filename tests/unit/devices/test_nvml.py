"""Clock, power and temperature, from a stand-in of NVML."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from cmx4trt.devices.nvml import Limits, Nvml, Readings, open_nvml


class FakeNvml:
    def __init__(self, failing: str = "") -> None:
        self.failing = failing

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            return 999 if name == self.failing else self._answer(name, arguments)

        return call

    def _answer(self, name: str, arguments: tuple[Any, ...]) -> int:
        if name == "nvmlDeviceGetHandleByPciBusId_v2":
            arguments[1]._obj.value = 0xD0
            return 0 if arguments[0] == b"0000:1b:00.0" else 6
        numbers = {
            ("nvmlDeviceGetClockInfo", 1): 1755,
            ("nvmlDeviceGetPowerUsage",): 693_500,
            ("nvmlDeviceGetTemperature", 0): 61,
            ("nvmlDeviceGetMaxClockInfo", 1): 1980,
            ("nvmlDeviceGetEnforcedPowerLimit",): 700_000,
            ("nvmlDeviceGetCurrPcieLinkGeneration",): 4,
            ("nvmlDeviceGetCurrPcieLinkWidth",): 8,
            ("nvmlDeviceGetMaxPcieLinkGeneration",): 5,
            ("nvmlDeviceGetMaxPcieLinkWidth",): 16,
            ("nvmlDeviceGetCurrentClocksThrottleReasons",): 0x1 | 0x4 | 0x40,
        }
        if arguments:
            device, *selection, target = arguments
            assert device.value == 0xD0
            wide = name == "nvmlDeviceGetCurrentClocksThrottleReasons"
            assert isinstance(target._obj, ctypes.c_ulonglong if wide else ctypes.c_uint)
            target._obj.value = numbers[(name, *selection)]  # type: ignore[index]
        return 0


def test_the_state_of_the_gpu() -> None:
    assert Nvml(FakeNvml(), "0000:1b:00.0").read() == Readings(1755, 693.5, 61)
    assert Readings(1755, 693.5, 61).to_dict() == {"sm_clock_mhz": 1755, "watts": 693.5, "celsius": 61}


def test_what_the_gpu_could_do_and_what_holds_it_down() -> None:
    nvml = Nvml(FakeNvml(), "0000:1b:00.0")
    assert nvml.limits() == Limits(1980, 700.0, 4, 8, 5, 16)
    assert nvml.held_down_by() == {"its power limit", "its temperature"}


def test_what_nvml_does_not_tell_is_an_error() -> None:
    with pytest.raises(OSError, match="nvmlDeviceGetPowerUsage failed with status 999"):
        Nvml(FakeNvml("nvmlDeviceGetPowerUsage"), "0000:1b:00.0").read()


@pytest.mark.parametrize("library", [FakeNvml("nvmlInit_v2"), FakeNvml()])
def test_without_nvml_or_the_gpu_in_it_there_are_no_readings(library: Any) -> None:
    assert open_nvml("0000:99:00.0", lambda: library) is None


def test_a_machine_without_the_library_has_no_readings() -> None:
    assert open_nvml("0000:1b:00.0", lambda: ctypes.CDLL("libnothing.so.1")) is None
