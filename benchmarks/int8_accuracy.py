"""Accuracy and SQNR of INT8 on held-out images: our methods, ONNX Runtime's quantizer and Model Optimizer, on trained networks.

    python benchmarks/int8_accuracy.py FOLDER [FOLDER …] [--images 500] [--calibration 64] [--noise 1 3] [--modelopt PYTHON]
                                       [--processes 64] [--device cuda] [--out FOLDER]

Each FOLDER was written by train_resnet50.py or train_retinanet.py. The images are regenerated from their seed, so nothing else is
needed; ``--noise`` above 1 makes them harder, so that the network is no longer certain and small errors matter. ``--modelopt`` is
the Python of an environment with Model Optimizer (pip install nvidia-modelopt[onnx]).

All tools get the same network (batch normalization folded) and calibration images, and quantize symmetrically, weights per output
channel, unless the row says otherwise. Everything but the int8 layers is float32, which every device computes well: in ONNX
Runtime on the CPU, in torch without TF32 on all GPUs (``--device cuda``, see ``torch_graph.py``) or on the CPU (``--device
torch``). ``--processes`` of one thread each share the rest of the work.

``--out`` gets the tables (``int8-accuracy.md``) and a line for each row (``int8-accuracy.jsonl``) as the rows are done. A row
that fails says why, the others go on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from calibration import one_thread
from int8_methods import UNCORRECTED, UNSIGNED, all_cases
from int8_work import FLOAT, Part, Reference, Row, Work, prepare, quantize, run_float, run_int8, score
from trained import Answer, holds_network, read_trained

PART = 25
"""Images of a task."""
LAST = (
    "minmax",
    UNSIGNED,
    *(f"{method.value}, no bias correction" for method in UNCORRECTED),
    "ONNX Runtime Entropy, asymmetric",
    "ONNX Runtime Percentile, asymmetric",
)
"""Rows that are measured when all others are."""


def main() -> None:
    options = read_options()
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        works = [Work(f, Path(folder), options.calibration, options.modelopt, options.device) for f in found(options)]
        parts = [
            Part(n, i, min(PART, options.images - i)) for n in options.noise for i in range(0, options.images, PART)
        ]
        context = get_context("spawn")  # ONNX Runtime's threads do not survive a fork
        with ExitStack() as stack:
            workers = stack.enter_context(ProcessPoolExecutor(options.processes, context, initializer=one_thread))
            runners = workers
            if options.device != "cpu":
                runners = stack.enter_context(ProcessPoolExecutor(options.runners, context))
            rows: list[Row] = []
            for row in measured(Pools(workers, runners), works, parts, options):
                rows.append(row)
                print(line(row), flush=True)
                if options.out:
                    write_results(options.out, rows, options.images)
    print(tables(rows, options.images))


def found(options: argparse.Namespace) -> list[Path]:
    """The folders with a network."""
    folders = [folder.resolve() for folder in options.folders]
    for folder in folders:
        if not holds_network(folder):
            print(f"{folder} holds no trained network and is left out", file=sys.stderr, flush=True)
    return [folder for folder in folders if holds_network(folder)] or sys.exit("no network to measure")


def write_results(folder: Path, rows: list[Row], images: int) -> None:
    """The rows so far: whoever ends the program early has them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "int8-accuracy.jsonl").write_text("".join(line(row) + "\n" for row in rows))
    (folder / "int8-accuracy.md").write_text(tables(rows, images))


def line(row: Row) -> str:
    """A row as JSON."""
    numbers = {} if row.title == FLOAT else row.cells()
    name = row.folder.name
    return json.dumps({"network": name, "noise": row.noise, "int8": row.title, "scores": row.scores, **numbers})


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--images", type=int, default=500, help="held-out images")
    parser.add_argument("--calibration", type=int, default=64, help="calibration images")
    parser.add_argument(
        "--noise", type=float, nargs="+", default=[1.0], help="noise of the held-out images relative to the training's"
    )
    parser.add_argument("--modelopt", help="Python of an environment with nvidia-modelopt")
    parser.add_argument("--only", action="append", help="only rows whose name contains this")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--device", choices=["cpu", "cuda", "torch"], default="cpu", help="what runs the networks: see above"
    )
    parser.add_argument("--runners", type=int, default=16, help="processes that share the GPUs")
    parser.add_argument("--out", type=Path, help="folder for the tables")
    parser.add_argument("--scratch", help="folder for temporary files")
    return parser.parse_args()


@dataclass(frozen=True)
class Pools:
    """Processes that quantize and score, and those that run networks; on the CPU, the same."""

    workers: ProcessPoolExecutor
    runners: ProcessPoolExecutor


def measured(pools: Pools, works: list[Work], parts: list[Part], options: argparse.Namespace) -> Iterator[Row]:
    """All rows, as they are done."""
    for ready in [pools.workers.submit(prepare, work) for work in works]:
        ready.result()
    floats = {work: [(part, pools.runners.submit(run_float, work, part)) for part in parts] for work in works}
    titles = [t for t in all_cases(bool(options.modelopt)) if not options.only or any(o in t for o in options.only)]
    rows = [(work, title) for title in sorted(titles, key=_place) for work in works]
    with ThreadPoolExecutor(len(rows)) as waiting:  # each waits for the processes that work on its rows
        futures = {waiting.submit(rows_of, pools, *row, floats[row[0]]): row for row in rows}
        for work in works:
            for noise, reference in references(floats[work]).items():
                yield score(work, noise, FLOAT, reference, reference.answers)
        for done in as_completed(futures):
            work, title = futures[done]
            if (error := done.exception()) is None:
                yield from done.result()
            else:
                message = str(error).strip().splitlines() or [type(error).__name__]
                print(f"{work.folder.name}: {title} failed: {message[-1]}", file=sys.stderr, flush=True)


Floats = list[tuple[Part, "Future[tuple[list[Answer], list[Any]]]"]]
"""The float network's parts."""


def rows_of(pools: Pools, work: Work, title: str, floats: Floats) -> list[Row]:
    """The rows of one way to quantize a network, one for each noise."""
    pools.workers.submit(quantize, work, title).result()
    expected = references(floats)
    running = [(part, pools.runners.submit(run_int8, work, title, part)) for part, _ in floats]
    scoring = []
    for noise, reference in expected.items():
        answers = [one for part, future in running if part.noise == noise for one in future.result()]
        scoring.append(pools.workers.submit(score, work, noise, title, reference, answers))
    return [future.result() for future in scoring]


def references(floats: Floats) -> dict[float, Reference]:
    """By noise, once the float network has run."""
    found: dict[float, Reference] = {}
    for part, future in floats:
        answers, truth = future.result()
        reference = found.setdefault(part.noise, Reference([], []))
        reference.answers.extend(answers)
        reference.truth.extend(truth)
    return found


def _place(title: str) -> tuple[bool, int]:
    """What the default is chosen by comes first, of it what takes longest."""
    slow = ("ONNX Runtime Entropy", "ONNX Runtime Percentile", "Model Optimizer", "ONNX Runtime")
    place = next((place for place, start in enumerate(slow) if title.startswith(start)), len(slow))
    return title in LAST, place


def tables(rows: list[Row], images: int) -> str:
    """One for each network and noise, as Markdown."""
    groups: dict[tuple[Path, float], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.folder, row.noise), []).append(row)
    return "\n".join(table(*group, found, images) for group, found in sorted(groups.items()))


def table(folder: Path, noise: float, rows: list[Row], images: int) -> str:
    """One network's rows, the best median first."""
    trained = read_trained(folder)
    base = next(row for row in rows if row.title == FLOAT)
    what = f"{trained.facts['classes']} classes, {images} held-out images, noise {noise:g} x the training's"
    heads = ["INT8", *trained.columns, "SQNR dB: median", "all images", "worst 5 %", "lowest"]
    lines = [f"\n{trained.name} ({trained.kind}): {what}; FP32 {trained.columns[0]} {base.scores[0]:.4g}\n"]
    lines += ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in sorted((row for row in rows if row is not base), key=lambda row: -row.cells()["median"]):
        numbers = row.cells()
        cells = [row.title, f"{row.scores[0]:.4g}", f"{row.scores[1]:.4f}"]
        cells += [f"{numbers[name]:.1f}" for name in ("median", "all", "5 %", "lowest")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
