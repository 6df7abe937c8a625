"""The machine under a run: what the run asks of it and sets on it. A test passes a machine of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cmx4trt.bench.memory import free_memory
from cmx4trt.devices.nvml import Nvml, open_nvml
from cmx4trt.devices.placement import cpus_near, pin_this_thread


@dataclass(frozen=True, slots=True)
class Host:
    """``free_memory``: bytes, None if unknown; ``cpus_near``: the CPUs of a GPU's memory node, by its PCI address, empty if
    unknown; ``pin_this_thread``: to CPUs; ``open_nvml``: the GPU's own counters, None without them; ``look_seconds``: the
    time between two looks at a run, whose waiting thread has nothing else to do; ``stop_seconds``: what a failed run may take
    to end."""

    free_memory: Callable[[], int | None] = free_memory
    cpus_near: Callable[[str], frozenset[int]] = cpus_near
    pin_this_thread: Callable[[frozenset[int]], None] = pin_this_thread
    open_nvml: Callable[[str], Nvml | None] = open_nvml
    look_seconds: float = 1.0
    stop_seconds: float = 5.0


THIS_MACHINE = Host()
