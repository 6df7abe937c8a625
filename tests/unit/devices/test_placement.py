"""Processors near a GPU, from files as the Linux kernel shows them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cmx4trt.devices.placement import cpus_near, pin_this_thread


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with two nodes of four processors each, of which this process may use six."""
    files = {
        "bus/pci/devices/0000:1b:00.0/numa_node": "0\n",
        "bus/pci/devices/0000:5d:00.0/numa_node": "1\n",
        "bus/pci/devices/0000:00:06.0/numa_node": "-1\n",
        "devices/system/node/online": "0-1\n",
        "devices/system/node/node0/cpulist": "0-1,4-5\n",
        "devices/system/node/node1/cpulist": "2-3,6-7\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(os, "sched_getaffinity", lambda thread: set(range(6)))
    return tmp_path


def test_the_processors_of_the_gpus_node(system: Path) -> None:
    assert cpus_near("0000:1B:00.0", str(system)) == {0, 1, 4, 5}
    assert cpus_near("0000:5d:00.0", str(system)) == {2, 3}


@pytest.mark.parametrize("address", ["0000:00:06.0", "0000:99:00.0", ""])
def test_without_a_known_node_there_are_none(system: Path, address: str) -> None:
    assert cpus_near(address, str(system)) == frozenset()


def test_on_a_machine_with_one_node_there_are_none(system: Path) -> None:
    (system / "devices/system/node/online").write_text("0\n")
    assert cpus_near("0000:1b:00.0", str(system)) == frozenset()


def test_a_system_that_refuses_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: int, cpus: frozenset[int]) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    pin_this_thread(frozenset({0}))
