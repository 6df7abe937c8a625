"""Accuracy and SQNR of INT8 on held-out images: our methods, ONNX Runtime's quantizer and Model Optimizer, on trained networks.

    python benchmarks/int8_accuracy.py FOLDER [FOLDER …] [--images 500] [--calibration 64] [--noise 1 3] [--modelopt PYTHON]
                                       [--processes 64] [--out FOLDER]

Each FOLDER was written by train_resnet50.py or train_retinanet.py. The images are regenerated from their seed, so nothing else is
needed; ``--noise`` above 1 makes them harder, so that the network is no longer certain and small errors matter. All runs in ONNX
Runtime on the CPU, where float16 is slow, so the network with float32 for everything except the int8 layers is measured. All
tools get the same network (batch normalization folded) and calibration images, and quantize symmetrically, weights per output
channel, unless the row says otherwise. ``--modelopt`` is the Python of an environment with Model Optimizer (pip install
nvidia-modelopt[onnx]). ``--processes`` of one thread each share the work. ``--out`` gets the tables (``int8-accuracy.md``) and a
line for each row (``int8-accuracy.jsonl``). A row that fails says why, the others go on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from calibration import one_thread
from int8_methods import Files, all_cases, write_plain
from trained import CALIBRATION_SEED, Answer, Outputs, read_trained

from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

PART = 25
"""Images of a task."""
FLOAT = "FP32"


@dataclass(frozen=True)
class Work:
    """What a process needs to know of a network and where its files are."""

    folder: Path
    scratch: Path
    calibration: int
    modelopt: str | None

    def file(self, name: str) -> Path:
        return self.scratch / f"{self.folder.name}-{name.replace(' ', '_').replace(',', '')}"

    def files(self) -> Files:
        return Files(self.file("plain.onnx"), self.file("calibration.npy"), self.modelopt)


@dataclass(frozen=True)
class Part:
    """Some images of one noise."""

    noise: float
    start: int
    count: int

    def name(self) -> str:
        return f"{self.noise:g}-{self.start}"


@dataclass(frozen=True)
class Row:
    """A table's row."""

    folder: Path
    noise: float
    title: str
    answers: list[Answer]
    scores: tuple[float, float]

    def cells(self) -> dict[str, float]:
        """The numbers; SQNR in dB: of the median image, the worst twentieth, the worst, and all images' energies together."""
        decibels = sorted(answer.sqnr for answer in self.answers)
        signal, error = (sum(getattr(a, part) for a in self.answers) for part in ("signal", "error"))
        return {
            "median": float(np.median(decibels)),
            "5 %": float(np.percentile(decibels, 5)),
            "lowest": decibels[0],
            "all": Answer(signal, error, None).sqnr,
        }


def main() -> None:
    options = read_options()
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        works = [Work(f.resolve(), Path(folder), options.calibration, options.modelopt) for f in options.folders]
        parts = [
            Part(n, i, min(PART, options.images - i)) for n in options.noise for i in range(0, options.images, PART)
        ]
        context = get_context("spawn")  # ONNX Runtime's threads do not survive a fork
        with ProcessPoolExecutor(options.processes, context, initializer=one_thread) as pool:
            rows: list[Row] = []
            for row in measured(pool, works, parts, options):
                rows.append(row)
                print(line(row), flush=True)
                if options.out:
                    write_results(options.out, rows, options.images)
    print(tables(rows, options.images))


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
    parser.add_argument("--out", type=Path, help="folder for the tables")
    parser.add_argument("--scratch", help="folder for temporary files")
    return parser.parse_args()


@dataclass(frozen=True)
class Reference:
    """What the float network answers, and what is in the images."""

    answers: list[Answer]
    truth: list[Any]


def measured(
    pool: ProcessPoolExecutor, works: list[Work], parts: list[Part], options: argparse.Namespace
) -> Iterator[Row]:
    """All rows, as they are done: those in float first."""
    for ready in [pool.submit(prepare, work) for work in works]:
        ready.result()
    floats = {(work, part): pool.submit(run_float, work, part) for work in works for part in parts}
    references: dict[tuple[Work, float], Reference] = {}
    for work in works:
        for noise in options.noise:
            found = [floats[work, part].result() for part in parts if part.noise == noise]
            answers, truth = ([one for some in lists for one in some] for lists in zip(*found, strict=True))
            references[work, noise] = Reference(answers, truth)
            yield score(work, noise, FLOAT, references[work, noise], answers)
    titles = [t for t in all_cases(bool(options.modelopt)) if not options.only or any(o in t for o in options.only)]
    rows = [(work, title) for title in sorted(titles, key=_slowest_first) for work in works]
    with ThreadPoolExecutor(len(rows)) as waiting:  # each waits for the processes that work on its rows
        futures = {waiting.submit(rows_of, pool, *row, parts, references): row for row in rows}
        for done in as_completed(futures):
            work, title = futures[done]
            if (error := done.exception()) is None:
                yield from done.result()
            else:
                message = str(error).strip().splitlines() or [type(error).__name__]
                print(f"{work.folder.name}: {title} failed: {message[-1]}", file=sys.stderr, flush=True)


def rows_of(
    pool: ProcessPoolExecutor,
    work: Work,
    title: str,
    parts: list[Part],
    references: dict[tuple[Work, float], Reference],
) -> list[Row]:
    """The rows of one way to quantize a network, one for each noise."""
    pool.submit(quantize, work, title).result()
    running = [(part, pool.submit(run_int8, work, title, part)) for part in parts]
    scoring = []
    for noise in dict.fromkeys(part.noise for part in parts):
        answers = [one for part, future in running if part.noise == noise for one in future.result()]
        scoring.append(pool.submit(score, work, noise, title, references[work, noise], answers))
    return [future.result() for future in scoring]


def _slowest_first(title: str) -> int:
    order = ("ONNX Runtime Entropy", "ONNX Runtime Percentile", "Model Optimizer", "ONNX Runtime")
    return next((place for place, start in enumerate(order) if title.startswith(start)), len(order))


def prepare(work: Work) -> None:
    """Write the calibration images and the float network."""
    trained = read_trained(work.folder)
    images, _ = trained.images(CALIBRATION_SEED, 0, work.calibration, 1.0)
    np.save(work.files().images, images)
    write_plain(trained, work.files().plain)


def quantize(work: Work, title: str) -> None:
    """Write the quantized network."""
    case = all_cases(bool(work.modelopt))[title]
    case(read_trained(work.folder), work.files(), work.file(f"{title}.onnx"))


def run_float(work: Work, part: Part) -> tuple[list[Answer], list[Any]]:
    """The reference's answers and what is in the images; inputs and outputs are kept in files."""
    trained = read_trained(work.folder)
    images, truth = trained.images(trained.facts["held_out_seed"], part.start, part.count, part.noise)
    outputs = run(work.files().plain, images)
    np.save(work.file(f"{part.name()}-images.npy"), images)
    values: dict[str, Any] = dict(outputs)
    np.savez(work.file(f"{part.name()}-outputs.npz"), **values)
    return trained.answers(outputs, outputs), truth


def run_int8(work: Work, title: str, part: Part) -> list[Answer]:
    """A quantized network's answers."""
    got = run(work.file(f"{title}.onnx"), np.load(work.file(f"{part.name()}-images.npy")))
    with np.load(work.file(f"{part.name()}-outputs.npz")) as expected:
        return read_trained(work.folder).answers(dict(expected), got)


def run(model: Path, images: Any) -> Outputs:
    """All outputs, image by image."""
    session = OnnxRuntimeSession.from_bytes(model.read_bytes())
    found = [session.run({session.inputs[0]: images[i : i + 1]}) for i in range(len(images))]
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}


def score(work: Work, noise: float, title: str, reference: Reference, answers: list[Answer]) -> Row:
    """A row of one noise."""
    scores = read_trained(work.folder).scores(reference.answers, answers, reference.truth)
    return Row(work.folder, noise, title, answers, scores)


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
