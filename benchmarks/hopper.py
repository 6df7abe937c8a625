"""Engines of the builder hopper on an H100 or H200: everything that is claimed about them, in one call.

    python benchmarks/hopper.py equality stress sanitizer table short sustained [--out FOLDER]

equality   every stored activation and all outputs against the specification, for every candidate kernel, with new random data
           in every run, in buffers previously filled with a different byte
stress     30,000 launches of every kernel at a small batch; replays of the network, which must be identical bit for bit
sanitizer  compute-sanitizer's memcheck over every launch at small batches (needs the CUDA toolkit's tool)
once       what it checks
table      every launch compared with its bound
short      images/s for a quarter of a second
sustained  images/s for --seconds, in windows, with clock, watts and temperature from nvidia-smi
load       seconds to open an engine file
cycles     1,000 sessions opened, run and closed: memory of GPU and host, and open files, before and after
kernels    compile only: writes all candidates to --kernels (no GPU needed)

Needs the extra [hopper]. ``--kernels FILE`` uses kernels that were compiled elsewhere from the same sources. Peers:
hopper_peers.py; top-1: hopper_accuracy.py.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from hopper_reference import network_for

from cmx4trt.backends.hopper import reference, wgmma
from cmx4trt.backends.hopper.candidates import signature_of
from cmx4trt.backends.hopper.checks import IMAGES, check_batch
from cmx4trt.backends.hopper.choices import Choices, choices_of
from cmx4trt.backends.hopper.compiler import KERNELS, Compiler
from cmx4trt.backends.hopper.container import read_engine, write_engine
from cmx4trt.backends.hopper.engine import Engine
from cmx4trt.backends.hopper.images import random_images
from cmx4trt.backends.hopper.measure import repetitions
from cmx4trt.backends.hopper.network import Convolution, Network
from cmx4trt.backends.hopper.packing import Weights
from cmx4trt.backends.hopper.plan import Kernel, Launch
from cmx4trt.backends.hopper.schedule import INPUT, LOGITS, Scheduled, Types, schedule
from cmx4trt.backends.hopper.sections import bound_seconds
from cmx4trt.backends.hopper.session import HopperSession
from cmx4trt.backends.hopper.site import Site
from cmx4trt.backends.hopper.tune import variants
from cmx4trt.backends.hopper.work import launch_records
from cmx4trt.devices.cuda import open_cuda
from cmx4trt.ir.onnx_file import decode_model
from cmx4trt.networks import model_from_seed

SPEED_BATCHES = (1, 8, 64, 256, 1024, 2048)
EQUAL_BATCHES = (1, 3, 5, 64, 1024)
CANDIDATE_BATCHES = (1, 3, 5, 64)
"""Batch sizes at which every candidate is compared; at the largest only those that the table selects."""
SMALL_BATCH, STRESS_LAUNCHES, QUEUED, CYCLES = 3, 30_000, 500, 1000
REPLAYS = {SMALL_BATCH: 2000, 64: 500, 1024: 50}
SANITIZED_BATCHES = (1, 3)
WINDOWS = 6
ALL_TYPES = (Types("int8"), Types("float32"), Types("float16", "float16"))
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


class Bench:
    """The network, the GPU, and kernels compiled once."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.records: dict[str, Any] = {}
        self._cubins: dict[str, bytes] = {}
        if options.kernels and options.commands != [kernels.__name__]:
            sources, self._cubins = pickle.loads(options.kernels.read_bytes())
            if sources != digest_of_kernels():
                sys.exit(f"{options.kernels} was compiled from other sources; recompile it: hopper.py kernels")

    @cached_property
    def device(self) -> Any:
        return open_cuda()

    @cached_property
    def network(self) -> Network:
        """ResNet-50 with random weights, calibrated on random images; or the trained one."""
        with tempfile.TemporaryDirectory() as folder:
            os.environ["XDG_CACHE_HOME"] = folder
            return trained_network(self.options.trained, Path(folder)) if self.options.trained else random_network()

    @cached_property
    def choices(self) -> Choices:
        known = "" if self.options.commands == [kernels.__name__] else self.device.facts.name
        return choices_of(self.options.choices, known)

    def scheduled(self, batch: int, types: Types = ALL_TYPES[0], choices: Choices | None = None) -> Scheduled:
        return schedule(self.network, batch, types, choices or self.choices)

    def engine(self, batch: int, types: Types = ALL_TYPES[0], choices: Choices | None = None) -> Engine:
        """The engine, after writing and reading its file."""
        made = self.scheduled(batch, types, choices)
        cubins = self.compiled(made.plan.kernels)
        return read_engine(write_engine(Engine(made.plan, cubins, made.weights)), "the engine")

    def compiled(self, kernels: Sequence[Kernel]) -> dict[str, bytes]:
        missing = [kernel for kernel in kernels if kernel.name not in self._cubins]
        if missing:
            compiled = Compiler().compile_all(missing)
            for name, one in compiled.items():
                assert not one.resources.spills, f"{name} spills: {one.resources}"
            self._cubins.update({name: one.cubin for name, one in compiled.items()})
        return {kernel.name: self._cubins[kernel.name] for kernel in kernels}

    @contextmanager
    def session(self, batch: int, *more: Any) -> Iterator[HopperSession]:
        """A session for batches up to ``batch``, with random images uploaded for one of that size."""
        with closing(HopperSession(self.engine(batch, *more), self.device)) as session:
            session.place({INPUT: self.images(batch, 7, session.input_dtype(INPUT))})
            yield session

    def images(self, count: int, seed: int, dtype: str = "int8") -> Any:
        a = self.network.input
        few = min(count, 64)
        if self.options.trained:
            images = held_out_images(self.options.trained, few, a.scale)
            assert dtype == "int8", "the trained network is measured with int8 input"
        else:
            images = random_images(seed, few, (a.channels, a.height, a.width), a.scale, dtype)
        return images[np.arange(count) % len(images)]


def random_network() -> Network:
    model = model_from_seed("resnet50", 0)
    return network_for(model, random_weights=0, calibration_data="random", calibration_count=4).network


def trained_network(folder: Path, scratch: Path) -> Network:
    """The network written by train_resnet50.py, calibrated on images of a series of its own."""
    from hopper_accuracy import calibration_images
    from trained import joined_model

    data = scratch / "calibration.npy"
    np.save(data, calibration_images(64))
    return network_for(decode_model(joined_model(folder)), calibration_data=str(data)).network


def held_out_images(folder: Path, count: int, scale: float) -> Any:
    """[N, 3, 224, 224] int8: images like those the network was trained on."""
    import textures
    from hopper_accuracy import training_facts

    images, _ = textures.held_out(training_facts(folder)["held_out_seed"], 0, count)
    return np.ascontiguousarray(np.moveaxis(reference.quantize_input(textures.preprocess(images), scale), 3, 1))


def digest_of_kernels() -> str:
    digest = hashlib.sha256(wgmma.header().encode())
    for path in sorted(Path(KERNELS).iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()


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
    words = [sys.executable, __file__, "once", *(f"{name}={value}" for name, value in given.items() if value)]
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


def kernels(bench: Bench) -> None:
    wanted: dict[str, Kernel] = {}
    made = [bench.scheduled(2048, types) for types in ALL_TYPES]
    made += [bench.scheduled(1024, ALL_TYPES[0], Choices("", {1: variant})) for variant in variants(bench.network)]
    for one in made:
        wanted.update({kernel.name: kernel for kernel in one.plan.kernels})
    sources, began = digest_of_kernels(), time.perf_counter()
    compiled = bench.compiled(list(wanted.values()))
    print(
        f"{len(compiled)} kernels, {sum(map(len, compiled.values())) / 1e6:.1f} MB, {time.perf_counter() - began:.1f} s"
    )
    bench.options.kernels.write_bytes(pickle.dumps((sources, compiled)))


COMMANDS: dict[str, Callable[[Bench], None]] = {
    one.__name__: one for one in (equality, stress, sanitizer, once, table, short, sustained, load, cycles, kernels)
}


def main() -> None:
    options = read_options()
    bench = Bench(options)
    if options.commands != [kernels.__name__]:
        facts = bench.device.facts
        print(f"{facts.name}, driver {facts.driver or 'unknown'}, {facts.multiprocessors} SMs", flush=True)
    for command in options.commands:
        began = time.monotonic()
        print(f"\n## {command}\n", flush=True)
        COMMANDS[command](bench)
        print(f"\n({command}: {time.monotonic() - began:.0f} s)", flush=True)
        if options.out:
            (options.out / "hopper.json").write_text(json.dumps(bench.records, indent=1))


def read_options() -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="+", choices=list(COMMANDS), metavar="COMMAND")
    parser.add_argument("--kernels", type=Path, help="file of compiled kernels")
    parser.add_argument(
        "--trained", type=Path, metavar="FOLDER", help="the network of train_resnet50.py, on its own images"
    )
    parser.add_argument("--choices", help="table of cmx4trt tune, h100 or h200, instead of the GPU's")
    parser.add_argument("--seconds", type=float, default=30.0, help="seconds of each sustained measurement")
    parser.add_argument("--sustained", type=numbers, default=[8, 64, 256, 1024, 2048], metavar="BATCH,…")
    parser.add_argument("--table", type=numbers, default=[1024, 64], metavar="BATCH,…")
    parser.add_argument("--out", type=Path, help="folder for hopper.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
