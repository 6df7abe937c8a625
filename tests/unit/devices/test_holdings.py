"""What a session holds of a GPU goes, newest first, whatever fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cmx4trt.devices.cuda_errors import CudaFailure
from cmx4trt.devices.holdings import Holdings


class Device:
    """Numbers what it gives, remembers what is given back, and fails at one of those."""

    def __init__(self, failing: str = "") -> None:
        self.freed: list[str] = []
        self._failing = failing
        self._given = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def give(*_: object) -> int:
            self._given += 1
            return self._given

        def take(handle: object) -> None:
            self.freed.append(f"{name} {handle}")
            if name == self._failing:
                raise CudaFailure(name, "CUDA_ERROR_UNKNOWN")

        return take if name.startswith(("free", "unload")) else give


def filled(device: Any) -> Holdings:
    holdings = Holdings(device)
    assert [holdings.memory(8), holdings.stream(), holdings.event(), holdings.module(b"")] == [1, 2, 3, 4]
    holdings.before_that(lambda: device.freed.append("synchronized"))
    return holdings


ALL = ["synchronized", "unload 4", "free_event 3", "free_stream 2", "free 1"]


def test_the_newest_goes_first() -> None:
    device = Device()
    with filled(device):
        assert device.freed == []
    assert device.freed == ALL


def test_a_failure_keeps_nothing_back_and_is_told() -> None:
    device = Device(failing="free_event")
    with pytest.raises(CudaFailure):
        filled(device).close()
    assert device.freed == ALL


def test_after_an_error_that_error_is_told() -> None:
    device = Device(failing="free_event")
    with pytest.raises(ZeroDivisionError), filled(device):
        raise ZeroDivisionError
    assert device.freed == ALL
