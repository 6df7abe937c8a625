"""The host side of many GPUs: do LoadGen, one queue and one Python process keep up? Measured with simulated GPUs.

    python benchmarks/host_side.py [--gpus 1 2 4 8] [--scenario Offline Server] [--rate 100000] [--seconds 10] [--rounds 3]

A simulated GPU has a copy stream like that of a real one, two batches deep; a batch takes the time of its samples, one batch
after the other, and nothing is computed. So everything that the host does for a sample is measured: LoadGen, the queue, rows of
samples, waiting, answers. Every run is a separate process. Offline: samples/s, and their share of the GPUs' capacity.
Server: the target rate is a share of that, and the table shows which rates meet the latency bound. "host CPU" is CPU seconds per
second; Python's interpreter lock limits Python code to one of them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from cmx4trt.base.progress import Silent
from cmx4trt.bench.run import Bench, run_bench
from cmx4trt.bench.settings import BenchSettings
from cmx4trt.networks.classification.responses import ClassResponder
from cmx4trt.sessions.group import SessionGroup

BATCH = {"Offline": 1024, "Server": 256}
FIXED_SECONDS = 150e-6
"""Seconds of the smallest batch: measured for ResNet-50 on one H100 (batch 1: 0.154 ms)."""
SAMPLES = 2048
"""Number of samples in memory; their size does not matter, because GPUs fetch them themselves."""
OFFLINE_EXPECTED = 1.1
SERVER_LOADS = (0.5, 0.7, 0.85)
"""Shares of the GPUs' rate; a measured H100 meets Server's bound at 0.83 of its Offline rate."""


class PacedStream:
    """See ``sessions.base.Stream``: batches end one after the other, each after ``FIXED_SECONDS`` plus 1 / ``rate`` per
    sample."""

    depth = 2

    def __init__(self, rate: float, largest: int) -> None:
        self._rate = rate
        self._free = 0.0
        self._ends: deque[float] = deque()
        self._answer = {"class": np.zeros(largest, np.int32)}

    def submit(self, feeds: Mapping[str, Any]) -> None:
        """Begin when the previous batch ends."""
        (rows,) = feeds.values()
        seconds = max(FIXED_SECONDS, len(rows.rows) / self._rate)
        self._free = max(self._free, time.perf_counter()) + seconds
        self._ends.append(self._free)

    def wait(self) -> Mapping[str, Any]:
        """Sleep until the oldest batch ends, like a thread waiting for a driver event."""
        left = self._ends.popleft() - time.perf_counter()
        if left > 0:
            time.sleep(left)
        return self._answer

    def execute(self, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        """One batch."""
        self.submit(feeds)
        return self.wait()


class PacedSession:
    """A session of one simulated GPU that fetches rows itself."""

    inputs, outputs = ("images",), ("class",)
    device, min_batch, gathers, placements = "simulated GPU", 1, True, ()

    def __init__(self, rate: float, largest: int) -> None:
        self.max_batch = largest
        self._stream = PacedStream(rate, largest)

    def input_shape(self, name: str) -> tuple[int | str | None, ...]:
        """One byte per sample."""
        return ("N", 1, 1, 1)

    def input_dtype(self, name: str) -> str:
        """int8, as for ResNet-50."""
        return "int8"

    def run(self, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        """One batch."""
        return self._stream.execute(feeds)

    def streams(self) -> Sequence[PacedStream]:
        """The only stream."""
        return [self._stream]

    def allocate(self, shape: tuple[int, ...], dtype: str) -> Any:
        """Pageable memory."""
        return np.zeros(shape, dtype)

    def close(self) -> None:
        """There is nothing to release."""


class Bytes:
    """Samples of one byte."""

    shape = (1, 1, 1)
    description = "none"
    complete = False
    truth = None

    def __len__(self) -> int:
        return SAMPLES

    def read(self, index: int, out: Any) -> None:
        """Keep the zero."""


def run(scenario: str, gpus: int, rate: float, load: float, seconds: float) -> dict[str, Any]:
    """One LoadGen run; ``load``: the share of the GPUs' rate that Server sends, or Offline expects."""
    batch = BATCH[scenario]
    sessions = [PacedSession(rate, batch) for _ in range(gpus)]
    session: Any = SessionGroup(sessions) if gpus > 1 else sessions[0]
    bench = Bench(
        session, "resnet50", lambda lg, size: ClassResponder(lg, size, "class", 0), Bytes(), batch, "simulated GPUs"
    )
    settings = BenchSettings(scenario, duration=seconds, target_qps=load * gpus * rate)
    with tempfile.TemporaryDirectory() as folder:
        cpu, wall = time.process_time(), time.perf_counter()
        result = run_bench(bench, settings, folder, Silent())
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {
        "value": result.metric.value if result.metric else 0.0,
        "valid": result.valid,
        "p99_ms": result.latency_ns.get("99.00", 0) / 1e6,
        "cpu": cpu / wall,
    }


def run_apart(scenario: str, gpus: int, load: float, arguments: argparse.Namespace) -> dict[str, Any]:
    """``run`` in a separate process."""
    numbers = [str(value) for value in (gpus, arguments.rate, load, arguments.seconds)]
    done = subprocess.run(
        [sys.executable, __file__, "--child", scenario, *numbers], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def report(scenario: str, gpus: int, load: float, arguments: argparse.Namespace) -> None:
    """A table row: medians over the rounds."""
    runs = [run_apart(scenario, gpus, load, arguments) for _ in range(arguments.rounds)]
    value, p99, cpu = (statistics.median(one[key] for one in runs) for key in ("value", "p99_ms", "cpu"))
    sent = f"{load * gpus * arguments.rate:,.0f}" if scenario == "Server" else "all at once"
    bound = f"{p99:.2f}" if scenario == "Server" else "-"
    valid = f"{sum(one['valid'] for one in runs)} of {len(runs)}"
    share = value / (gpus * arguments.rate)
    print(f"| {scenario} | {gpus} | {sent} | {value:,.0f} | {share:.3f} | {bound} | {valid} | {cpu:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", nargs="+", type=int, default=[1, 2, 4, 8], help="numbers of simulated GPUs")
    parser.add_argument("--scenario", nargs="+", default=list(BATCH), choices=list(BATCH))
    parser.add_argument("--rate", type=float, default=100_000.0, help="samples/s of one GPU")
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds of one run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        scenario, gpus, *numbers = arguments.child
        print(json.dumps(run(scenario, int(gpus), *(float(number) for number in numbers))))
        return
    print(f"{os.cpu_count()} CPUs, {arguments.rate:,.0f} samples/s per GPU, {arguments.seconds:g} s per run")
    print("| scenario | GPUs | sent/s | samples/s | of the GPUs' rate | p99 ms | VALID | host CPU |")
    print("|---|---|---|---|---|---|---|---|")
    for scenario in arguments.scenario:
        for gpus in arguments.gpus:
            for load in SERVER_LOADS if scenario == "Server" else (OFFLINE_EXPECTED,):
                report(scenario, gpus, load, arguments)


if __name__ == "__main__":
    main()
