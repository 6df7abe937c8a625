"""Several sessions as one."""

from __future__ import annotations

from typing import Any

from cmx4trt.devices.placement import Placement
from cmx4trt.sessions.group import SessionGroup
from cmx4trt.sessions.null import NullSession


class Session(NullSession):
    def __init__(self, index: int, log: list[str]) -> None:
        super().__init__(8, copy_streams=2)
        self.device = f"GPU {index}"
        self.placements = (Placement(index, "H100", ""),) * 2
        self.gathers = True
        self._log = log

    def allocate(self, shape: tuple[int, ...], dtype: str) -> Any:
        self._log.append(f"allocate on {self.device}")
        return super().allocate(shape, dtype)

    def close(self) -> None:
        self._log.append(f"close {self.device}")


def test_streams_are_those_of_all_and_memory_is_the_firsts_which_closes_last() -> None:
    log: list[str] = []
    group = SessionGroup([Session(index, log) for index in range(3)])
    assert len(group.streams()) == len(group.placements) == 6
    assert [placement.index for placement in group.placements] == [0, 0, 1, 1, 2, 2]
    assert group.device == "GPU 0, GPU 1, GPU 2"
    assert (group.gathers, group.max_batch, group.outputs) == (True, 8, ("class",))
    assert group.allocate((2, 3), "int8").shape == (2, 3)
    group.close()
    assert log == ["allocate on GPU 0", "close GPU 2", "close GPU 1", "close GPU 0"]


def test_a_group_gathers_where_all_do() -> None:
    log: list[str] = []
    one, other = Session(0, log), Session(1, log)
    other.gathers = False
    assert SessionGroup([one, other]).gathers is False
