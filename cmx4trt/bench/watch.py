"""What a run's GPUs did: samples answered, clock and power second by second, shares, and what throttled them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from cmx4trt.devices.nvml import Limits, Nvml, Readings
from cmx4trt.store.results import GpuCourse, GpuShare, Timeline

if TYPE_CHECKING:
    from cmx4trt.bench.sut import Lane
    from cmx4trt.devices.placement import Placement

MOST_SECONDS = 600
"""Maximum points of a timeline; of a longer run, every second, third, … point is kept."""
_DROP = 0.95
"""A clock below this share of the maximum is reported."""


@dataclass(slots=True)
class _Gpu:
    """A GPU with its lanes."""

    placement: Placement
    lanes: list[Lane]
    nvml: Nvml | None
    limits: Limits | None = None
    readings: list[Readings] = field(default_factory=list)
    reasons: set[str] = field(default_factory=set)

    @property
    def answered(self) -> int:
        return sum(lane.answered for lane in self.lanes)

    def look(self) -> None:
        """Read NVML, no more often than necessary: a query may block the driver, and with it a batch, for milliseconds."""
        if self.nvml is None:
            return
        with suppress(OSError):  # failed readings are omitted
            self.readings.append(self.nvml.read())
            if self.limits is None:
                self.limits = self.nvml.limits()
            if not self.reasons and self.readings[-1].sm_clock_mhz < _DROP * self.limits.sm_clock_mhz:
                self.reasons |= self.nvml.held_down_by()


class Watch:
    """The observation of one run over ``lanes``; ``open_nvml``: a GPU's counters by its PCI address, None without them."""

    def __init__(self, lanes: Sequence[Lane], open_nvml: Callable[[str], Nvml | None]) -> None:
        by_gpu: dict[Placement, list[Lane]] = {}
        for lane in lanes:
            if lane.placement is not None:
                by_gpu.setdefault(lane.placement, []).append(lane)
        self._lanes = lanes
        self._gpus = [_Gpu(one, of_it, open_nvml(one.pci_bus_id)) for one, of_it in by_gpu.items()]
        self._seconds: list[float] = []
        self._answered: list[int] = []

    def look(self, seconds: float) -> None:
        """Record the state at this many seconds after the start."""
        self._seconds.append(seconds)
        self._answered.append(sum(lane.answered for lane in self._lanes))
        for gpu in self._gpus:
            gpu.look()

    def gpus(self) -> list[GpuShare]:
        """Every GPU: index, name, samples, share of the total, and its limits if NVML reports them."""
        total = max(1, sum(gpu.answered for gpu in self._gpus))
        return [
            GpuShare(
                index=gpu.placement.index,
                name=gpu.placement.name,
                samples=gpu.answered,
                share=round(gpu.answered / total, 4),
                limits=gpu.limits.to_dict() if gpu.limits else {},
            )
            for gpu in self._gpus
        ]

    def timeline(self) -> Timeline:
        """Per second of the run: samples per second, and clock and power of every GPU."""
        step = -(-len(self._seconds) // MOST_SECONDS) or 1
        seconds, answered = ([0, *values][::step] for values in (self._seconds, self._answered))
        pairs = zip(pairwise(answered), pairwise(seconds), strict=True)
        return Timeline(
            seconds=[round(at, 2) for at in seconds[1:]],
            samples_per_second=[round((b - a) / max(t - s, 1e-9), 1) for (a, b), (s, t) in pairs],
            gpus=[
                GpuCourse(
                    sm_clock_mhz=[one.sm_clock_mhz for one in gpu.readings[step - 1 :: step]],
                    watts=[round(one.watts, 1) for one in gpu.readings[step - 1 :: step]],
                )
                for gpu in self._gpus
            ],
        )

    def notes(self) -> list[str]:
        """What reduced the performance, one sentence each."""
        return [note for gpu in self._gpus if gpu.limits is not None for note in _notes_of(gpu, gpu.limits)]


def _notes_of(gpu: _Gpu, limits: Limits) -> list[str]:
    notes, title = [], f"GPU {gpu.placement.index} ({gpu.placement.name})"
    link, best = (limits.link_generation, limits.link_width), (limits.best_link_generation, limits.best_link_width)
    if link != best:
        notes.append(
            f"{title}: its PCIe link runs at generation {link[0]} x{link[1]} instead of generation {best[0]} x{best[1]}"
        )
    slowest = min((one.sm_clock_mhz for one in gpu.readings), default=limits.sm_clock_mhz)
    if slowest < _DROP * limits.sm_clock_mhz:
        held = " and ".join(sorted(gpu.reasons)) or "an unknown cause"
        watts = max(one.watts for one in gpu.readings)
        notes.append(
            f"{title}: its clock fell to {slowest:,} of {limits.sm_clock_mhz:,} MHz, throttled by {held} "
            f"(up to {watts:.0f} of {limits.power_watts:.0f} W)"
        )
    return notes
