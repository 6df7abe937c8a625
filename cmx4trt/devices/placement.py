"""The location of a GPU: its index among those that a process may use, its PCI address, and the processors near it."""

from __future__ import annotations

import os
from dataclasses import dataclass

_SYSFS = "/sys"


@dataclass(frozen=True, slots=True)
class Placement:
    """The GPU that a stream uses."""

    index: int
    name: str
    pci_bus_id: str


def cpus_near(pci_bus_id: str, system: str = _SYSFS) -> frozenset[int]:
    """Processors of the GPU's NUMA node that this process may use; empty if the system reports no node, or only one.

    ``system``: where the Linux kernel shows its devices.
    """

    def read(path: str) -> str:
        with open(os.path.join(system, path), encoding="ascii") as stream:
            return stream.read().strip()

    try:
        node = int(read(f"bus/pci/devices/{pci_bus_id.lower()}/numa_node"))
        nodes = _numbers(read("devices/system/node/online"))
        near = _numbers(read(f"devices/system/node/node{node}/cpulist")) if node in nodes else set()
    except (OSError, ValueError):
        return frozenset()
    return frozenset(near & os.sched_getaffinity(0)) if len(nodes) > 1 else frozenset()


def pin_this_thread(cpus: frozenset[int]) -> None:
    """Bind the calling thread to these processors; if the system refuses, it runs anywhere."""
    try:
        os.sched_setaffinity(0, cpus)
    except OSError:
        return


def _numbers(text: str) -> set[int]:
    """'0-3,8' as numbers (Linux, cpulist format)."""
    ranges = (part.partition("-") for part in text.split(",") if part)
    return {number for first, _, last in ranges for number in range(int(first), int(last or first) + 1)}
