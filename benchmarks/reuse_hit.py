"""The cost of a reuse hit compared with an empty Python process, and the cost of each hash function.

    python benchmarks/reuse_hit.py [--rounds 15]

Needs the extra rtx, and for the comparison of digests: pip install xxhash. ResNet-50 with random weights in a file of 102 MB,
float16. Runs are interleaved; medians of wall and of processor time are printed, and the medians of the ratios of each round.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from build_time import model_paths
from measure import Case, measure, print_table

NOTHING = "python -c pass"
SHA256 = "sha256"
CHUNK = 1 << 20


def hit_cases(folder: Path, model: Path) -> list[Case]:
    """A reuse hit, with and without the report, compared with an empty process and with the cheapest command."""
    program = [sys.executable, "-m", "cmx4trt"]
    flags = [f"--model={model}", "--precision=fp16", "--batch_size=64", f"--output_dir={folder / 'store'}"]
    return [
        Case(NOTHING, [sys.executable, "-c", "pass"]),
        Case("cmx4trt --version", [*program, "--version"]),
        Case("reuse hit", [*program, "build", *flags]),
        Case("reuse hit, --report=no", [*program, "build", *flags, "--report=no"]),
    ]


def digests() -> dict[str, Callable[[], Any]]:
    """The installed hash functions: name -> a new hash object."""
    found: dict[str, Callable[[], Any]] = {SHA256: hashlib.sha256, "blake2b": hashlib.blake2b}
    for module, name in (("blake3", "blake3"), ("xxhash", "xxh3_128")):
        if importlib.util.find_spec(module):
            found[name] = getattr(importlib.import_module(module), name)
    return found


def hash_file(path: Path, digest: Any) -> None:
    buffer = memoryview(bytearray(CHUNK))
    with open(path, "rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            digest.update(buffer[:count])


def compare_digests(path: Path, rounds: int) -> None:
    """Read and hash one file in one thread, with every hash function."""
    new = digests()
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in new}
    for number in range(rounds + 1):
        for name, make in new.items():
            wall, processor = time.perf_counter(), time.thread_time()
            hash_file(path, make())
            if number:
                seconds[name].append((time.perf_counter() - wall, time.thread_time() - processor))
    print(
        f"\nReading and hashing {path.stat().st_size / 1e6:.0f} MB in one thread (medians of {rounds} interleaved runs)"
    )
    print(f"| digest | wall ms | CPU ms | CPU, x of {SHA256} |\n|---|---|---|---|")
    for name, values in seconds.items():
        wall, processor = (1e3 * statistics.median(column) for column in zip(*values, strict=True))
        ratio = statistics.median(own[1] / other[1] for own, other in zip(values, seconds[SHA256], strict=True))
        print(f"| {name} | {wall:.1f} | {processor:.1f} | {ratio:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writer = Path(__file__).with_name("build_time.py")
        subprocess.run([sys.executable, os.fspath(writer), "--write-models", name], check=True)
        model = model_paths(folder)["fp32"]
        runs = measure(hit_cases(folder, model), arguments.rounds)  # the first, uncounted round builds
        print_table("Reuse, ResNet-50 of 102 MB", runs, NOTHING)
        compare_digests(model, arguments.rounds)


if __name__ == "__main__":
    main()
