"""Measurements of hopper.py: every launch beside its bound, images/s for a moment and for long, and loading."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from hopper_bench import Bench

from cmx4trt.backends.hopper.candidates import signature_of
from cmx4trt.backends.hopper.container import read_engine, write_engine
from cmx4trt.backends.hopper.engine import Engine
from cmx4trt.backends.hopper.measure import repetitions
from cmx4trt.backends.hopper.network import Convolution, Network
from cmx4trt.backends.hopper.packing import Weights
from cmx4trt.backends.hopper.plan import Launch
from cmx4trt.backends.hopper.sections import bound_seconds
from cmx4trt.backends.hopper.session import HopperSession
from cmx4trt.backends.hopper.site import Site
from cmx4trt.backends.hopper.work import launch_records

SPEED_BATCHES = (1, 8, 64, 256, 1024, 2048)
WINDOWS = 6
PROTOTYPES = {
    "1x1/1 64->64 at 56": 0.0,
    "3x3/1 64->64 at 56": 0.0,
    "1x1/1 64->256 at 56 +projection": 0.69,
    "1x1/1 256->64 at 56": 0.0,
    "1x1/1 64->256 at 56 +residual": 0.68,
    "1x1/1 256->128 at 56": 0.437,
    "3x3/2 128->128 at 28": 0.231,
    "1x1/1 128->512 at 28 +projection": 0.243 + 0.357,
    "3x3/1 128->128 at 28": 0.158,
    "1x1/1 128->512 at 28 +residual, 1x1/1 512->128 at 28": 0.397,
    "1x1/1 128->512 at 28 +residual": 0.357,
    "1x1/1 512->128 at 28": 0.180,
    "1x1/1 512->256 at 28": 0.227,
    "3x3/2 256->256 at 14": 0.162,
    "1x1/1 256->1024 at 14 +projection": 0.198 + 0.189,
    "1x1/1 256->1024 at 14 +residual": 0.189,
    "1x1/1 1024->256 at 14": 0.095,
    "3x3/1 256->256 at 14": 0.159,
    "1x1/1 1024->512 at 14": 0.169,
    "3x3/2 512->512 at 7": 0.150,
    "1x1/1 512->2048 at 7 +projection": 0.175 + 0.112,
    "1x1/1 512->2048 at 7 +residual": 0.112,
    "1x1/1 2048->512 at 7": 0.079,
    "3x3/1 512->512 at 7": 0.150,
    "7x7/2 3->64 at 112": 0.635,
    "AveragePool": 0.041,
    "Classifier": 0.014,
}
"""Milliseconds of throw-away prototypes of these kernels at batch 1024 on another H100, the target for these. Whole blocks at
56x56 are listed with their last convolution, max pooling with the stem, separate projection kernels with their convolution."""


def table(bench: Bench) -> None:
    for batch in bench.options.table:
        with bench.session(batch) as session:
            times = [one for _, one in session.launch_times(batch, repetitions(batch))]
            whole = _milliseconds(session, batch)
        _print_table(bench, batch, times, whole)


def _print_table(bench: Bench, batch: int, times: list[float], whole: float) -> None:
    program = bench.scheduled(batch).plan.program(batch)
    records = launch_records(bench.network, program)
    rows: dict[tuple[str, str], list[float]] = {}
    for launch, record, measured in zip(program.launches, records, times, strict=True):
        bound = 1e3 * bound_seconds(record, batch, bench.device.facts.name)[0]
        signatures = _signatures(bench.network, launch)
        row = rows.setdefault((" + ".join(signatures), launch.kernel), [0, 0.0, 0.0, 0.0])
        for index, value in enumerate((1, bound, measured, _prototype(signatures))):
            row[index] += value
    probe = batch == 1024
    print(f"\nbatch {batch}, ms; launches of the same kind added up, each timed in repetitions\n")
    print("| layers | kernel | launches | bound | measured |" + (" prototype |" if probe else ""))
    print("|---|---|---|---|---|" + ("---|" if probe else ""))
    for (name, kernel), (count, bound, measured, known) in rows.items():
        print(
            f"| {name} | {kernel} | {count:.0f} | {bound:.3f} | {measured:.3f} |" + (f" {known:.3f} |" if probe else "")
        )
    sums = [sum(row[index] for row in rows.values()) for index in range(4)]
    print(f"| all | | {sums[0]:.0f} | {sums[1]:.3f} | {sums[2]:.3f} |" + (f" {sums[3]:.3f} |" if probe else ""))
    print(f"| as one graph | | | | {whole:.3f} |" + (" |" if probe else ""), flush=True)
    found = [[*key, *row] for key, row in rows.items()]
    bench.records[f"table {batch}"] = {"rows": found, "launches": times, "graph": whole}


def _signatures(network: Network, launch: Launch) -> list[str]:
    site = Site(network, Weights())
    named = {operation.name: operation for operation in network.operations}
    found = [named[name] for name in launch.operations if name in named]
    texts = [signature_of(site, one) if isinstance(one, Convolution) else type(one).__name__ for one in found]
    return texts or list(launch.operations)


def _prototype(signatures: Sequence[str]) -> float:
    known = PROTOTYPES.get(", ".join(signatures))
    return sum(PROTOTYPES.get(one, 0.0) for one in signatures) if known is None else known


def short(bench: Bench) -> None:
    print("| batch | ms | images/s, short |\n|---|---|---|")
    found = {}
    for batch in SPEED_BATCHES:
        with bench.session(batch) as session:
            found[batch] = _milliseconds(session, batch)
        print(f"| {batch} | {found[batch]:.4f} | {batch / found[batch] * 1e3:,.0f} |", flush=True)
    bench.records["short"] = found


def _milliseconds(session: HopperSession, batch: int) -> float:
    once = session.run_resident(batch, 3) / 3
    times = max(3, round(50 / once)) if once else 3
    return statistics.median(session.run_resident(batch, times) / times for _ in range(5))


def sustained(bench: Bench) -> None:
    print("| batch | images/s: median | windows | s | MHz | W | degrees C |\n|---|---|---|---|---|---|---|")
    bench.records["sustained"] = found = {}
    for batch in bench.options.sustained:
        with bench.session(batch) as session:
            found[batch] = _sustain(session, batch, bench.options.seconds, bench.device.facts.pci_bus_id)
        one = found[batch]
        windows = " ".join(f"{rate:,.0f}" for rate in one["windows"])
        state = " | ".join(f"{value:.0f}" for value in one["state"])
        median = statistics.median(one["windows"])
        print(f"| {batch} | {median:,.0f} | {windows} | {bench.options.seconds:g} | {state} |", flush=True)


def _sustain(session: HopperSession, batch: int, seconds: float, gpu: str) -> dict[str, Any]:
    once = session.run_resident(batch, 3) / 3
    times = max(1, round(250 / once))
    with _smi(gpu) as readings:
        begun, rates = time.monotonic(), []
        while time.monotonic() - begun < seconds:
            rates.append(batch * times / session.run_resident(batch, times) * 1e3)
    size = max(1, len(rates) // WINDOWS)
    windows = [statistics.median(part) for i in range(WINDOWS) if (part := rates[i * size : (i + 1) * size])]
    later = readings[len(readings) // 2 :] or [[0.0, 0.0, 0.0]]
    return {"windows": windows, "state": [statistics.median(column) for column in zip(*later, strict=True)]}


@contextmanager
def _smi(gpu: str) -> Iterator[list[list[float]]]:
    """Clock, power and temperature of the GPU, every second, available after the block."""
    fields = "clocks.sm,power.draw,temperature.gpu"
    words = ["nvidia-smi", f"--id={gpu}", f"--query-gpu={fields}", "--format=csv,noheader,nounits", "-lms", "1000"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    readings: list[list[float]] = []
    try:
        yield readings
    finally:
        process.terminate()
        lines = (process.communicate()[0] or "").splitlines()
        readings += [[float(value) for value in line.split(",")] for line in lines if line.count(",") == 2]


def load(bench: Bench) -> None:
    """Time from the bytes of an engine file to a session that can run, and its size."""
    made = bench.scheduled(1024)
    data = write_engine(Engine(made.plan, bench.compiled(made.plan.kernels), made.weights))
    times = []
    for _ in range(5):
        began = time.perf_counter()
        with closing(HopperSession(read_engine(data, "the engine"), bench.device)):
            times.append(time.perf_counter() - began)
    weights = len(made.weights)
    size = f"engine {len(data) / 1e6:.1f} MB, weights {weights / 1e6:.1f} MB"
    print(f"{size}, loaded in {statistics.median(times):.3f} s (median of 5)")
    bench.records["load"] = {"bytes": len(data), "weights": weights, "seconds": times}
