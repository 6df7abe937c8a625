"""Top-1 of a trained ResNet-50: FP32, the INT8 Q/DQ graph in ONNX Runtime, and the builder hopper's engine, side by side.

    python benchmarks/hopper_accuracy.py FOLDER [--images 1000] [--calibration 64] [--jobs 8]

FOLDER contains the network trained by train_resnet50.py. The engine is built here and runs on the GPU; without one, its
specification is used, which is equal to it bit for bit and takes seconds per image. The held-out images are regenerated from
their seed, once as in training, once with more noise, so that the network is no longer certain and small errors matter.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import textures
from hopper_reference import Lowered, network_for
from trained import CALIBRATION_SEED, joined_model

from cmx4trt.backends.hopper import reference
from cmx4trt.backends.hopper.choices import shipped_choices
from cmx4trt.backends.hopper.compiler import Compiler
from cmx4trt.backends.hopper.engine import Engine
from cmx4trt.backends.hopper.schedule import Types, schedule
from cmx4trt.backends.hopper.session import HopperSession
from cmx4trt.devices.cuda import open_cuda
from cmx4trt.errors import CmxError
from cmx4trt.ir.onnx_file import decode_model, encode_model
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

BATCH = 20
NOISE_FACTORS = (1.0, 3.0)
LEAST = 0.99
"""Share of FP32's top-1 that MLPerf's closed division requires of ResNet-50."""
COMPARED = 5
"""Number of images whose logits are also computed by the specification if the engine runs."""
Run = Callable[[Any], Any]


def main() -> None:
    options = read_options()
    trained = training_facts(options.folder)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        data = Path(folder, "calibration.npy")
        np.save(data, calibration_images(options.calibration))
        found = network_for(decode_model(joined_model(options.folder)), calibration_data=str(data))
    what, engine = engine_of(found)
    print(f"trained on {trained['device']} for {trained['seconds']:g} s; the engine: {what}")
    runs = {"FP32": runtime(found.float32), "ONNX Runtime, INT8": runtime(found.graph), "Hopper engine": engine}
    shares = [compare(runs, draw(trained["held_out_seed"], noise, options), noise) for noise in NOISE_FACTORS]
    if shares[0] < LEAST:  # the calibration images also have the training's noise
        sys.exit(f"top-1 relative to FP32 is {shares[0]:.4f}, expected at least {LEAST}")


def calibration_images(count: int) -> Any:
    """[N, 3, 224, 224] float32 as the network is fed, from a series that is neither trained on nor held out."""
    return textures.preprocess(textures.held_out(CALIBRATION_SEED, 0, count)[0])


def training_facts(folder: Path) -> dict[str, Any]:
    """What train_resnet50.py noted; networks fed with MLPerf's preprocessing only."""
    facts: dict[str, Any] = json.loads((folder / "resnet50.json").read_text())
    if facts.get("std", 1.0) != 1.0:
        sys.exit(f"{folder} was trained with images divided by {facts['std']:g}; train it with --std=1")
    return facts


def compare(runs: dict[str, Run], pairs: list[tuple[Any, Any]], noise: float) -> float:
    """Print a table; returns the engine's top-1 relative to FP32's."""
    labels = np.concatenate([label for _, label in pairs])
    logits = {
        name: np.concatenate([run(textures.preprocess(images)) for images, _ in pairs]) for name, run in runs.items()
    }
    exact = logits["FP32"]
    base = float((exact.argmax(1) == labels).mean())
    if not base:
        sys.exit("the network predicts no class correctly: it is not trained")
    print(f"\n{len(labels)} held-out images with {noise:g} x the training's noise")
    print("| | top-1 | relative to FP32 | same class as FP32 | SQNR, dB |\n|---|---|---|---|---|")
    for name, values in logits.items():
        top1, same = float((values.argmax(1) == labels).mean()), (values.argmax(1) == exact.argmax(1)).mean()
        trained = slice(0, textures.CLASSES)
        error = np.square((values - exact)[:, trained].astype(np.float64)).sum()
        decibels = 10 * np.log10(np.square(exact[:, trained].astype(np.float64)).sum() / error) if error else np.inf
        print(f"| {name} | {top1:.4f} | {top1 / base:.4f} | {same:.4f} | {decibels:.1f} |", flush=True)
    return float((logits["Hopper engine"].argmax(1) == labels).mean()) / base


def engine_of(found: Lowered) -> tuple[str, Run]:
    """A description of what computes, and the function from images to logits."""

    def specified(images: Any) -> Any:
        return reference.run(found.network, images).logits

    try:
        device = open_cuda()
    except CmxError as error:
        return f"its specification, on the CPU ({error.cause})", specified
    made = schedule(found.network, BATCH, Types("float32"), shipped_choices())
    cubins = {name: one.cubin for name, one in Compiler().compile_all(made.plan.kernels).items()}
    session = HopperSession(Engine(made.plan, cubins, made.weights), device)

    def executed(images: Any) -> Any:
        return session.run({"input": images})["logits"]

    images = textures.preprocess(textures.held_out(CALIBRATION_SEED, 1000, COMPARED)[0])
    different = int(np.count_nonzero(executed(images) != specified(images)))
    if different:
        sys.exit(f"{different} logits of {COMPARED} images differ from the specification")
    return f"{session.device}; logits of {COMPARED} images equal to the specification's", executed


def runtime(model: Any) -> Run:
    session = OnnxRuntimeSession.from_graph(encode_model(model))
    return lambda images: session.run({"input": images})["logits"]


def draw(seed: int, noise: float, options: argparse.Namespace) -> list[tuple[Any, Any]]:
    """Held-out images in batches, generated by several processes."""
    starts = range(0, options.images, BATCH)
    with ProcessPoolExecutor(options.jobs) as pool:
        futures = [
            pool.submit(textures.held_out, seed, start, min(BATCH, options.images - start), noise) for start in starts
        ]
        return [future.result() for future in futures]


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--calibration", type=int, default=64, help="calibration images")
    parser.add_argument("--jobs", type=int, default=8, help="processes that generate images")
    return parser.parse_args()


if __name__ == "__main__":
    main()
