"""What is told of a run's GPUs, from made-up lanes and counters."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from cmx4trt.bench.watch import MOST_SECONDS, Watch
from cmx4trt.devices.nvml import Limits, Readings
from cmx4trt.devices.placement import Placement

LIMITS = Limits(2000, 300.0, 4, 16, 4, 16)
GPUS = [Placement(index, "Card", f"0000:0{index}:00.0") for index in range(2)]


class Counters:
    """NVML of one GPU, with these clocks one after the other."""

    def __init__(self, clocks: Sequence[int], limits: Limits = LIMITS, reasons: Sequence[str] = ()) -> None:
        self._clocks = iter(clocks)
        self._limits = limits
        self._reasons = reasons

    def read(self) -> Readings:
        clock = next(self._clocks, None)
        if clock is None:
            raise OSError("no more readings")
        return Readings(clock, clock / 10, 50)

    def limits(self) -> Limits:
        return self._limits

    def held_down_by(self) -> set[str]:
        return set(self._reasons)


def watched(lanes: Sequence[tuple[Placement | None, int]], counters: dict[str, Any]) -> tuple[Watch, list[Any]]:
    """A watch over lanes (GPU, samples that it answers between two looks), and the lanes."""
    made: list[Any] = [SimpleNamespace(placement=placement, answered=0, step=step) for placement, step in lanes]
    return Watch(made, counters.get), made


def look(watch: Watch, lanes: Sequence[Any], seconds: Sequence[float]) -> None:
    for second in seconds:
        for lane in lanes:
            lane.answered += lane.step
        watch.look(second)


def test_lanes_of_one_gpu_are_counted_together() -> None:
    watch, lanes = watched([(GPUS[0], 10), (GPUS[0], 20), (GPUS[1], 10), (None, 5)], {})
    look(watch, lanes, [1.0, 2.0])
    assert [(one.index, one.samples, one.share, one.limits) for one in watch.gpus()] == [
        (0, 60, 0.75, {}),
        (1, 20, 0.25, {}),
    ]
    assert watch.timeline().samples_per_second == [45.0, 45.0]
    assert watch.notes() == []


def test_clock_and_power_second_by_second() -> None:
    watch, lanes = watched([(GPUS[0], 1)], {GPUS[0].pci_bus_id: Counters([2000, 1990])})
    look(watch, lanes, [0.5, 1.5, 2.5])  # the last reading fails, and is left out
    found = watch.timeline()
    assert (found.seconds, found.samples_per_second) == ([0.5, 1.5, 2.5], [2.0, 1.0, 1.0])
    assert [(list(one.sm_clock_mhz), list(one.watts)) for one in found.gpus] == [([2000, 1990], [200.0, 199.0])]
    assert watch.gpus()[0].limits["sm_clock_mhz"] == 2000
    assert watch.notes() == []


def test_a_long_run_has_as_many_points_as_are_drawn() -> None:
    watch, lanes = watched([(GPUS[0], 3)], {GPUS[0].pci_bus_id: Counters([2000] * 3 * MOST_SECONDS)})
    look(watch, lanes, [float(second) for second in range(1, 2 * MOST_SECONDS + 2)])
    found = watch.timeline()
    assert len(found.seconds) == len(found.gpus[0].watts) == MOST_SECONDS * 2 // 3
    assert set(found.samples_per_second) == {3.0}


@pytest.mark.parametrize(
    ("reasons", "words"),
    [((), "an unknown cause"), (("its temperature", "a power brake"), "a power brake and its temperature")],
)
def test_what_held_a_gpu_down_is_said(reasons: Sequence[str], words: str) -> None:
    slow = Limits(2000, 300.0, 3, 8, 4, 16)
    watch, lanes = watched([(GPUS[1], 1)], {GPUS[1].pci_bus_id: Counters([1990, 1000], slow, reasons)})
    look(watch, lanes, [1.0, 2.0])
    assert watch.notes() == [
        "GPU 1 (Card): its PCIe link runs at generation 3 x8 instead of generation 4 x16",
        f"GPU 1 (Card): its clock fell to 1,000 of 2,000 MHz, throttled by {words} (up to 199 of 300 W)",
    ]
