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
import json
import pickle
import time
from collections.abc import Callable
from pathlib import Path

from hopper_bench import ALL_TYPES, Bench, digest_of_kernels
from hopper_checks import cycles, equality, once, sanitizer, stress
from hopper_speed import load, short, sustained, table

from cmx4trt.backends.hopper.choices import Choices
from cmx4trt.backends.hopper.plan import Kernel
from cmx4trt.backends.hopper.tune import variants


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
    if not bench.compiles_only:
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
