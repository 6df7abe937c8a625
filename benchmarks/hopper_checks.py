"""Checks of hopper.py: equality with the specification, rare faults, accesses outside buffers, and what closed sessions keep."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from hopper_bench import ALL_TYPES, Bench

from cmx4trt.backends.hopper import reference
from cmx4trt.backends.hopper.checks import IMAGES, check_batch
from cmx4trt.backends.hopper.choices import Choices
from cmx4trt.backends.hopper.plan import Launch
from cmx4trt.backends.hopper.schedule import INPUT, LOGITS
from cmx4trt.backends.hopper.session import HopperSession
from cmx4trt.backends.hopper.tune import variants

EQUAL_BATCHES = (1, 3, 5, 64, 1024)
CANDIDATE_BATCHES = (1, 3, 5, 64)
"""Batch sizes at which every candidate is compared; at the largest only those that the table selects."""
SMALL_BATCH, STRESS_LAUNCHES, QUEUED, CYCLES = 3, 30_000, 500, 1000
REPLAYS = {SMALL_BATCH: 2000, 64: 500, 1024: 50}
SANITIZED_BATCHES = (1, 3)
PROGRAM = Path(__file__).with_name("hopper.py")


def equality(bench: Bench) -> None:
    seed = time.time_ns() % 2**32
    print(f"random images from seed {seed}, {IMAGES} distinct ones repeated to fill a batch")
    totals = [0, 0]
    exact = bench.images(IMAGES, seed)
    expected = reference.run(bench.network, exact, keep=True)
    steps = reference.quantize_input(exact, bench.network.input.scale)
    for types in ALL_TYPES:
        images = bench.images(IMAGES, seed, types.input)
        assert np.array_equal(reference.quantize_input(images, bench.network.input.scale), steps), types
        batches = EQUAL_BATCHES if types.input == "int8" else CANDIDATE_BATCHES
        with bench.session(max(batches), types) as session:
            for batch in batches:
                _compare(session, images, expected, batch, f"{types.input} input", totals)
    for number, variant in enumerate(variants(bench.network), 1):
        with bench.session(max(CANDIDATE_BATCHES), ALL_TYPES[0], Choices("", {1: variant})) as session:
            for batch in CANDIDATE_BATCHES:
                _compare(session, exact, expected, batch, f"candidates {number}", totals)
    print(f"\nvalues compared: {totals[0]:,}, different: {totals[1]:,}")
    bench.records["equality"] = {"compared": totals[0], "different": totals[1]}


def _compare(
    session: HopperSession, images: Any, expected: reference.Outputs, batch: int, title: str, totals: list[int]
) -> None:
    check = check_batch(session, images, expected, batch)
    totals[0] += check.figures["compared"]
    totals[1] += check.figures["different"]
    print(f"{title}, {check.sentence}", flush=True)


def stress(bench: Bench) -> None:
    """Rare faults, for example of barriers that are reused too early."""
    seen: set[str] = set()
    for variant in (None, *variants(bench.network)):
        choices = None if variant is None else Choices("", {1: variant})
        engine = bench.engine(SMALL_BATCH, ALL_TYPES[2], choices)
        with closing(HopperSession(engine, bench.device)) as session:
            session.place({INPUT: bench.images(SMALL_BATCH, 3, ALL_TYPES[2].input)})
            _launch_often(bench, session, engine.plan.program(SMALL_BATCH).launches, seen)
    print(f"{len(seen)} kernels, {STRESS_LAUNCHES:,} launches each at batch {SMALL_BATCH}: no fault", flush=True)
    changed = {}
    for batch, times in REPLAYS.items():
        with bench.session(batch) as session:
            feed = {INPUT: bench.images(batch, 11)}
            first = session.run(feed)
            changed[batch] = sum(not np.array_equal(session.run(feed)[LOGITS], first[LOGITS]) for _ in range(times))
        print(f"batch {batch}: {times} replays, {changed[batch]} of them different", flush=True)
    bench.records["stress"] = {"kernels": len(seen), "launches": STRESS_LAUNCHES, "different_replays": changed}


def _launch_often(bench: Bench, session: HopperSession, launches: Sequence[Launch], seen: set[str]) -> None:
    stream = session.streams()[0]
    with bench.device.active("launch often"):
        for launch, configuration in zip(launches, stream.launches(SMALL_BATCH), strict=True):
            if launch.kernel in seen:
                continue
            seen.add(launch.kernel)
            for number in range(STRESS_LAUNCHES):
                bench.device.launch(configuration, stream.compute)
                if number % QUEUED == QUEUED - 1:
                    bench.device.synchronize(stream.compute)
            bench.device.synchronize(stream.compute)


def sanitizer(bench: Bench) -> None:
    given = {"--kernels": bench.options.kernels, "--choices": bench.options.choices}
    words = [sys.executable, str(PROGRAM), "once", *(f"{name}={value}" for name, value in given.items() if value)]
    began = time.monotonic()
    done = subprocess.run(
        ["compute-sanitizer", "--tool", "memcheck", "--error-exitcode", "9", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("=========") or "launches" in line]
    print("\n".join([*lines[:12], *lines[-2:]][:14]))
    print(f"exit status {done.returncode}, {time.monotonic() - began:.0f} s", done.stderr[-500:], flush=True)
    bench.records["sanitizer"] = {"exit_status": done.returncode, "last_line": lines[-1:] or None}


def once(bench: Bench) -> None:
    for types in (ALL_TYPES[2], ALL_TYPES[0]):
        for batch in SANITIZED_BATCHES:
            with bench.session(batch, types) as session:
                outputs = session.run({INPUT: bench.images(batch, 5, types.input)})
                print(
                    f"{types.input}, batch {batch}: all launches done, classes {outputs['class'].tolist()}", flush=True
                )


def cycles(bench: Bench) -> None:
    """What is left behind by sessions that are opened, run once at a small batch, and closed."""
    engine, feed = bench.engine(1024), {INPUT: bench.images(SMALL_BATCH, 3)}
    states, began = [], time.monotonic()
    for number in range(CYCLES + 1):
        with closing(HopperSession(engine, bench.device)) as session:
            session.run(feed)
        if number % (CYCLES // 4) == 0:
            states.append(_holdings(bench.device))
            print(f"after {number + 1} sessions: {' '.join(f'{k} {v:,}' for k, v in states[-1].items())}", flush=True)
    print(f"{(time.monotonic() - began) / (CYCLES + 1):.3f} s a session")
    bench.records["cycles"] = states


def _holdings(device: Any) -> dict[str, int]:
    with device.active("count what is held"):
        free = device.free_memory()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    files = len(list(Path("/proc/self/fd").iterdir()))
    return {"free on the GPU": free, "resident on the host": pages * os.sysconf("SC_PAGE_SIZE"), "open files": files}
