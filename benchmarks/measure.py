"""Runs commands interleaved and reports medians: wall and CPU seconds, peak memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    """One command to measure; ``before`` is called, unmeasured, before every run."""

    name: str
    command: Sequence[str]
    before: Callable[[], None] = lambda: None
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None


@dataclass(frozen=True)
class Cost:
    """What one run took: seconds, and the peak resident memory of the process itself in MiB."""

    wall: float
    cpu: float
    peak_mib: float


_FLOOR = """
import sys
import tensorrt_rtx as trt

logger = trt.Logger(trt.Logger.ERROR)
builder = trt.Builder(logger)
network = builder.create_network()
parser = trt.OnnxParser(network, logger)
assert parser.parse_from_file(sys.argv[1])
config = builder.create_builder_config()
profile = builder.create_optimization_profile()
batch, size = int(sys.argv[3]), int(sys.argv[4])
largest = (batch, 3, size, size)
profile.set_shape(network.get_input(0).name, (1, 3, size, size), largest, largest)
config.add_optimization_profile(profile)
engine = builder.build_serialized_network(network, config)
with open(sys.argv[2], "wb") as stream:
    stream.write(engine)
"""


def floor_command(model: str, plan: str, batch: int, size: int) -> list[str]:
    """The minimum work of a build: import TensorRT-RTX, parse, build with one profile 1..batch of [N, 3, size, size], write."""
    return [sys.executable, "-c", _FLOOR, model, plan, str(batch), str(size)]


_COMPILED = {"PYTHONDONTWRITEBYTECODE": ""}
"""Every package is compiled once, as when it is installed: an editable one would be compiled anew in every run otherwise."""


def run_once(case: Case) -> Cost:
    """Run a case's command to its end. Raises RuntimeError, with its output, if it fails."""
    case.before()
    start = time.perf_counter()
    process = subprocess.Popen(
        list(case.command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **_COMPILED, **case.env},
        cwd=case.cwd,
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    if process.returncode:
        raise RuntimeError(f"{case.name} exited {process.returncode}: {output.decode(errors='replace')[-2000:]}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def measure(cases: Sequence[Case], rounds: int) -> dict[str, list[Cost]]:
    """``rounds`` runs of every case, A B C A B C …, after one uncounted round that warms up the disk cache."""
    runs: dict[str, list[Cost]] = {case.name: [] for case in cases}
    for number in range(rounds + 1):
        for case in cases:
            result = run_once(case)
            if number:
                runs[case.name].append(result)
        print(f"round {number} of {rounds} done", file=sys.stderr, flush=True)
    return runs


def median(runs: Sequence[Cost], what: str) -> float:
    """The median of one quantity ('wall', 'cpu', 'peak_mib')."""
    return float(statistics.median(getattr(run, what) for run in runs))


def paired_ratio(runs: Sequence[Cost], baseline: Sequence[Cost], what: str) -> float:
    """The median over rounds of run / baseline of the same round: noise that lasts longer than a round cancels."""
    return float(statistics.median(getattr(a, what) / getattr(b, what) for a, b in zip(runs, baseline, strict=True)))


def print_table(title: str, runs: Mapping[str, Sequence[Cost]], baseline: str) -> None:
    """Medians (min..max) of every case, and ratios to ``baseline``."""
    print(f"\n{title} (medians of {len(runs[baseline])} interleaved runs; x = paired ratio to '{baseline}')")
    print("| case | wall s (min..max) | x | CPU s | x | peak MiB | x |\n|---|---|---|---|---|---|---|")
    for name, values in runs.items():
        walls = [run.wall for run in values]
        cells = [f"{median(values, 'wall'):.3f} ({min(walls):.3f}..{max(walls):.3f})"]
        for what, form in (("wall", ""), ("cpu", "{:.3f}"), ("peak_mib", "{:.0f}")):
            if form:
                cells.append(form.format(median(values, what)))
            cells.append(f"{paired_ratio(values, runs[baseline], what):.2f}")
        print(f"| {name} | " + " | ".join(cells) + " |")
