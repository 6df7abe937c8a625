"""An interruption while a library builds that does not listen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cmx4trt.backends.base import BuiltEngine
from cmx4trt.backends.tensorrt.serialize import BuildStoppedError
from cmx4trt.base.background import STOP_SECONDS, Background
from cmx4trt.base.progress import Silent
from cmx4trt.pipeline import build as pipeline
from cmx4trt.requests.build import BuildRequest

LIMIT = 60.0
"""Seconds after which a thread of these tests hangs."""


class DeafBuilder:
    """Is told to stop and does not look up until it is released."""

    name = "tensorrt-rtx"

    def __init__(self) -> None:
        self.begun, self.released = threading.Event(), threading.Event()
        self.told = False

    def version(self) -> str:
        return "1"

    def resolve(self, request: BuildRequest) -> Mapping[str, Any]:
        return {}

    def identity(self, request: BuildRequest) -> Mapping[str, str]:
        return {"name": self.name}

    def build(self, graph: Any, request: BuildRequest, progress: Any, stopped: Callable[[], bool]) -> BuiltEngine:
        self.begun.set()
        assert self.released.wait(LIMIT)
        self.told = stopped()
        raise BuildStoppedError


def test_whoever_interrupts_is_not_kept_waiting(
    small_resnet50: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand_in: Callable[..., None]
) -> None:
    """Only Python's own end is: it would crash under a thread that is in a library."""
    builder = DeafBuilder()
    waited: list[float] = []
    at_exit: list[tuple[Any, ...]] = []
    wait = Background.wait

    class Interrupted(Silent):
        @contextmanager
        def stage(self, name: str) -> Iterator[None]:
            if name == "verify":
                assert builder.begun.wait(LIMIT)
                raise KeyboardInterrupt
            yield

    stand_in(builder.name, builder=lambda: builder, load=lambda: None)
    monkeypatch.setattr("atexit.register", lambda *call: at_exit.append(call))
    monkeypatch.setattr(Background, "wait", lambda self, seconds: waited.append(seconds) or wait(self, seconds))
    with pytest.raises(KeyboardInterrupt):
        pipeline.build(BuildRequest.from_values({"random_weights": 0, "output_dir": tmp_path}), Interrupted())
    assert waited == []
    builder.released.set()
    monkeypatch.setattr(Background, "wait", wait)
    assert [seconds for _, seconds in at_exit] == [STOP_SECONDS] * 2  # of the library's loading, and of the build
    assert all(function.__self__.wait(LIMIT) for function, _ in at_exit)
    assert builder.told
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
