"""A session and a data set that can be seen through: image i holds the number i, and its class is i modulo ``CLASSES``."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmx4trt.base.progress import Progress, Silent
from cmx4trt.bench.host import Host
from cmx4trt.bench.run import Bench, run_bench
from cmx4trt.bench.settings import BenchSettings
from cmx4trt.errors import DeviceError
from cmx4trt.networks.classification.responses import ClassResponder
from cmx4trt.store.results import BenchResult

CLASSES = 1000


class NumberedImages:
    """``count`` images [1, 2, 2] full of their own number."""

    shape = (1, 2, 2)
    description = "numbered"
    complete = False
    truth = None

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def read(self, index: int, out: Any) -> None:
        out[...] = index


class EchoStream:
    """Answers batches in order, ``depth`` deep; computes only in ``wait``, so a feed changed too early shows."""

    def __init__(self, session: EchoSession, depth: int) -> None:
        self.depth = depth
        self._session = session
        self._pending: deque[Any] = deque()

    def submit(self, feeds: Mapping[str, Any]) -> None:
        assert len(self._pending) < self.depth
        self._pending.append(feeds["input"])

    def wait(self) -> Mapping[str, Any]:
        return self._session.answer(self._pending.popleft())

    def execute(self, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        self.submit(feeds)
        return self.wait()


class EchoSession:
    """Takes images of numbers, answers their classes; counts and limits what it is given."""

    inputs = ("input",)
    outputs = ("class",)
    device = "echo"
    gathers = False
    placements = ()

    def __init__(
        self,
        max_batch: int = 8,
        min_batch: int = 1,
        streams: int = 1,
        depth: int = 1,
        seconds: float = 0.0,
        fail_at: int | None = None,
    ) -> None:
        self.max_batch: int | None = max_batch
        self.min_batch = min_batch
        self.seconds = seconds
        self.fail_at = fail_at
        self.batches: list[int] = []
        self.threads: set[int] = set()
        self._streams = [EchoStream(self, depth) for _ in range(streams)]

    def answer(self, images: Any) -> Mapping[str, Any]:
        assert self.max_batch is not None
        assert self.min_batch <= len(images) <= self.max_batch
        assert (images == images[:, :1, :1, :1]).all()
        self.batches.append(len(images))
        self.threads.add(threading.get_ident())
        if self.fail_at is not None and len(self.batches) > self.fail_at:
            raise DeviceError("the echo is gone")
        if self.seconds:
            time.sleep(self.seconds)
        return {"class": (images[:, 0, 0, 0] % CLASSES).astype(np.int32)}

    def input_shape(self, name: str) -> tuple[int | str | None, ...]:
        return ("N", 1, 2, 2)

    def input_dtype(self, name: str) -> str:
        return "float32"

    def run(self, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.answer(feeds["input"])

    def streams(self) -> Sequence[EchoStream]:
        return self._streams

    def allocate(self, shape: tuple[int, ...], dtype: str) -> Any:
        return np.full(shape, -1, dtype)

    def close(self) -> None:
        self._streams = []


Runner = Callable[..., BenchResult]


PATIENT = Host(stop_seconds=60.0)
"""However busy the machine is, a failed run is waited for: no thread is left behind because it was slow."""


@pytest.fixture
def run_echo(tmp_path: Path) -> Runner:
    """Runs LoadGen over an EchoSession: run_echo(session, images=…, network=…, **settings)."""
    pytest.importorskip("mlperf_loadgen", reason="LoadGen is not installed (pip install 'cmx4trt[bench]')")

    def run(
        session: Any,
        images: int | NumberedImages = 100,
        batch: int | None = None,
        progress: Progress | None = None,
        host: Host = PATIENT,
        **settings: Any,
    ) -> BenchResult:
        bench = Bench(
            session,
            "resnet50",
            lambda lg, size: ClassResponder(lg, size, "class", 0),
            NumberedImages(images) if isinstance(images, int) else images,
            batch or session.max_batch,
            "an echo",
        )
        return run_bench(bench, BenchSettings(**settings), str(tmp_path / "logs"), progress or Silent(), host)

    run.images = NumberedImages  # type: ignore[attr-defined]
    return run


@pytest.fixture
def echo() -> type[EchoSession]:
    """The class of the session."""
    return EchoSession
