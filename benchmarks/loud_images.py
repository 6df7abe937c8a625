"""Why an INT8 network is bad on single images: their activations are larger than those of all calibration images.

    python benchmarks/loud_images.py FOLDER [--images 80] [--calibration 48] [--noise 1] [--method relative]

FOLDER was written by train_resnet50.py or train_retinanet.py. Printed for the held-out images with the lowest SQNR, and for the
median one: how many of the activations that get a range exceed the largest value of all calibration images, and by which
factor at most.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from int8_methods import all_cases
from int8_work import Work, prepare, run
from trained import read_trained

from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.quantize import place
from cmx4trt.quantize.observe import Method, Wanted, observed_model
from cmx4trt.quantize.observers import ExtremesObserver
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

SHOWN = 6


def main() -> None:
    options = read_options()
    trained = read_trained(options.folder)
    images, _ = trained.images(trained.facts["held_out_seed"], 0, options.images, options.noise)
    with tempfile.TemporaryDirectory() as folder:
        work = Work(options.folder, Path(folder), options.calibration, None)
        prepare(work)
        all_cases(False)[options.method](trained, work.files(), work.file("int8.onnx"))
        expected = run(work.files().plain, images, "cpu")
        answers = trained.answers(expected, run(work.file("int8.onnx"), images, "cpu"))
        calibration = np.load(work.files().images)
    seen = largest(trained, calibration).max(axis=0)
    loudness = largest(trained, images) / np.maximum(seen, 1e-9)
    decibels = np.array([answer.sqnr for answer in answers])
    order = np.argsort(decibels)
    print(f"{trained.name}, {options.method}: {options.images} held-out images, {options.calibration} for calibration")
    print(
        "| image | SQNR dB | activations beyond all calibration images | largest factor | median factor |\n|---|---|---|---|---|"
    )
    for index in [*order[:SHOWN], order[len(order) // 2]]:
        factors = loudness[index]
        beyond = f"{(factors > 1).sum()} of {len(factors)}"
        print(f"| {index} | {decibels[index]:.1f} | {beyond} | {factors.max():.1f} | {np.median(factors):.2f} |")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=80)
    parser.add_argument("--calibration", type=int, default=48)
    parser.add_argument("--noise", type=float, default=1.0)
    parser.add_argument("--method", choices=[method.value for method in Method], default="relative")
    return parser.parse_args()


def largest(trained: Any, images: Any) -> Any:
    """The largest magnitude of each activation that gets a range, [images, activations]."""
    network = trained.network()
    wanted = Wanted(place(network.model.graph).activations, {})
    session = OnnxRuntimeSession.from_graph(encode_model(observed_model(network.model, wanted, Method.MINMAX)))
    rows = [session.run({"input": images[i : i + 1]})[ExtremesObserver.OUTPUT] for i in range(len(images))]
    return np.stack([np.abs(row.reshape(3, -1)[:2]).max(axis=0) for row in rows])


if __name__ == "__main__":
    main()
