"""What int8's error in a trained network consists of, and what per-channel equalization of the activations changes.

    python benchmarks/equalization.py FOLDER [FOLDER …] [--images 24] [--calibration 32]

Each FOLDER was written by train_resnet50.py or train_retinanet.py. Equalization multiplies a channel by a factor, in the weights
that write it, and divides by it in those that read it; the float network stays the same. The factors of a channel are those with
the smallest squared error over the calibration images, each divided by its energy; all tensors that have to share a channel's
factor (the addends of a residual stream, what shared weights read) are taken together. ``prior`` adds this part of the mean
channel's errors to each channel's, so that a channel that the calibration images hardly excite is not scaled up; ``clipping`` is
what clipped values' errors count for. All rows take their steps from the same counts, without bias correction. Runs on the CPU.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from trained import CALIBRATION_SEED, Trained, read_trained

from cmx4trt.backends.flavor import TENSORRT, QuantizationFlavor
from cmx4trt.ir.model import DType, Graph, Model, Node, Tensor, ValueInfo
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.quantize.placement import Placement, place, shared_scales
from cmx4trt.quantize.qdq import insert_qdq
from cmx4trt.quantize.thresholds import HALF_INFINITY
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

Array = np.ndarray[Any, Any]
Classes = list[tuple[frozenset[str], Array]]
"""Tensors that share channels' factors, and the factors [C]."""

MERGED = 16
"""Neighboring float16 codes that are counted together: they differ by 1.5 % at most."""
OCTAVE = 8
"""Steps and factors are powers of 2 ** (1 / OCTAVE)."""
STEPS = 2.0 ** (np.arange(-14 * OCTAVE, 10 * OCTAVE + 1) / OCTAVE)
MOST = 6
"""Octaves that a channel is scaled up by at most."""
ROUNDS = 6
_SAME_CHANNELS = {"Relu", "MaxPool", "GlobalAveragePool", "Add", "Resize", "Flatten"}
"""Operators of the canonical networks whose result has its inputs' channels."""


@dataclass(frozen=True)
class Case:
    """A row: how far channels may differ (None: not at all) and what is quantized."""

    title: str
    grid: int | None = None
    prior: float = 0.1
    clipping: float = 1.0
    flavor: QuantizationFlavor = TENSORRT
    edit: Callable[[Placement], Placement] = lambda placement: placement


CASES = (
    Case("int8"),
    Case("weights alone", edit=lambda placement: replace(placement, edges=())),
    Case("activations alone", edit=lambda placement: replace(placement, weights=())),
    Case("uint8 where nothing is negative", flavor=replace(TENSORRT, unsigned=True)),
    Case("powers of two, no prior", OCTAVE, 0.0),
    Case("any factor, no prior", 1, 0.0),
    Case("powers of two, prior 0.1", OCTAVE),
    Case("any factor, prior 0.1", 1),
    Case("any factor, prior 0.5", 1, 0.5),
    Case("not equalized, clipping x 3", clipping=3.0),
    Case("any factor, prior 0.1, clipping x 3", 1, clipping=3.0),
    Case("not equalized, clipping x 10", clipping=10.0),
    Case("any factor, prior 0.1, clipping x 10", 1, clipping=10.0),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--images", type=int, default=24, help="held-out images")
    parser.add_argument("--calibration", type=int, default=32, help="calibration images")
    options = parser.parse_args()
    for folder in options.folders:
        trained = read_trained(folder)
        print(f"\n| {trained.name}: SQNR, dB | median | worst 5 % | all images | {trained.columns[1]} |")
        print("|---" * 5 + "|")
        for line in rows(trained, options.images, options.calibration):
            print(line, flush=True)


def rows(trained: Trained, images: int, calibration: int) -> Iterable[str]:
    """A row of the table for each case."""
    model = trained.network().model
    seen, _ = trained.images(CALIBRATION_SEED, 0, calibration, 1.0)
    held, truth = trained.images(trained.facts["held_out_seed"], 0, images, 1.0)
    counts, expected = counted(model, seen), outputs(model, held)
    float_answers = trained.answers(expected, expected)
    for case in CASES:
        answers = trained.answers(expected, outputs(quantized(model.copy(), counts, case), held))
        decibels = [answer.sqnr for answer in answers]
        total = 10 * np.log10(sum(a.signal for a in answers) / sum(a.error for a in answers))
        same = trained.scores(float_answers, answers, truth)[1]
        numbers = f"{np.median(decibels):.1f} | {np.percentile(decibels, 5):.1f} | {total:.1f} | {same:.3f}"
        yield f"| {case.title} | {numbers} |"


def outputs(model: Model, images: Array) -> dict[str, Array]:
    session = OnnxRuntimeSession.from_graph(encode_model(model))
    found = [session.run({session.inputs[0]: images[i : i + 1]}) for i in range(len(images))]
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}


def counted(model: Model, images: Array) -> dict[str, Array]:
    """Counts [C, bins] of float16 magnitudes by channel of every activation, each image's divided by its energy."""
    copy = model.copy()
    graph, tensors = copy.graph, place(model.graph).activations
    graph.nodes += [Node("Cast", [name], [f"{name}_half"], {"to": int(DType.FLOAT16)}) for name in tensors]
    graph.outputs = [ValueInfo(f"{name}_half", DType.FLOAT16, None) for name in tensors]
    session = OnnxRuntimeSession.from_graph(encode_model(copy))
    counts: dict[str, Array] = {}
    for index in range(len(images)):
        values = session.run({session.inputs[0]: images[index : index + 1]})
        for name in tensors:
            half = values[f"{name}_half"][0].reshape(values[f"{name}_half"].shape[1], -1)
            bins, energy = HALF_INFINITY // MERGED, np.square(half, dtype=np.float64).sum() or 1.0
            codes = (half.view(np.uint16) & 0x7FFF) // MERGED + (np.arange(len(half)) * bins)[:, None]
            found = np.bincount(codes.ravel(), minlength=len(half) * bins).reshape(len(half), bins)
            counts[name] = counts.get(name, 0) + (found / energy).astype(np.float32)
    return counts


def errors_of_codes(clipping: float, levels: int) -> Array:
    """The squared error [bins, steps] of a magnitude in each bin at each of STEPS."""
    codes = np.arange(HALF_INFINITY, dtype=np.uint16).view(np.float16).astype(np.float64)
    table = []
    for step in STEPS:
        rounded = np.rint(codes / step)
        error = np.square(codes - np.minimum(rounded, levels) * step) * np.where(rounded > levels, clipping, 1.0)
        table.append(error.reshape(-1, MERGED).mean(axis=1))
    return np.stack(table, axis=1)


def quantized(model: Model, counts: dict[str, Array], case: Case) -> Model:
    """``model``, edited."""
    placement = place(model.graph, flavor=case.flavor)
    weights = readers_weights(model.graph, placement)
    tables = {levels: errors_of_codes(case.clipping, levels) for levels in (127, 255)}
    scales: dict[str, float] = {}
    classes: Classes = []
    for group in channel_classes(model.graph, placement.activations):
        errors = {}
        for name in sorted(group & set(placement.activations)):
            levels = 255 if name in placement.unsigned else 127
            weight = weights.get(name, np.ones(len(counts[name])))
            error = counts[name] @ tables[levels] * np.maximum(weight, weight.max() * 1e-6)[:, None]
            errors[name] = error / (error[:, -1].sum() or 1.0)  # at the largest step everything is lost
        fixed = any(info.name in group for info in model.graph.inputs)
        octaves, chosen = fitted(errors, None if fixed else case.grid, case.prior)
        classes.append((group, 2.0 ** (octaves / OCTAVE)))
        for name, place_of_step in chosen.items():
            scales[name] = float(STEPS[place_of_step]) * (255 / 127 if name in placement.unsigned else 1.0)
    equalize(model.graph, classes)
    placement = case.edit(place(model.graph, flavor=case.flavor))
    insert_qdq(model, placement, shared_scales(placement, scales), {}, False, case.flavor)
    return model


def fitted(errors: dict[str, Array], grid: int | None, prior: float) -> tuple[Array, dict[str, int]]:
    """The channels' factors [C], in parts of an octave, and each tensor's place in STEPS; ``errors`` are [C, steps]."""
    some = next(iter(errors.values()))
    octaves, places = np.zeros(len(some), int), np.arange(len(STEPS))
    steps = {name: int(error.sum(axis=0).argmin()) for name, error in errors.items()}
    if grid is None:
        return octaves, steps
    candidates = np.arange(0, MOST * OCTAVE + 1, grid)
    padded = {name: error + prior * error.mean(axis=0) for name, error in errors.items()}
    for _ in range(ROUNDS):
        costs = [padded[name][:, np.maximum(step - candidates, 0)] for name, step in steps.items()]
        octaves = candidates[np.sum(costs, axis=0).argmin(axis=1)]
        moved = np.maximum(places[None] - octaves[:, None], 0)
        steps = {n: int(np.take_along_axis(e, moved, 1).sum(axis=0).argmin()) for n, e in padded.items()}
    return octaves, {n: int(np.take_along_axis(e, moved, 1).sum(axis=0).argmin()) for n, e in errors.items()}


def readers_weights(graph: Graph, placement: Placement) -> dict[str, Array]:
    """Of the activations that layers read, what a channel's error counts for: the sum of its weights' squares [C]."""
    found: dict[str, Array] = {}
    for weight in placement.weights:
        values = np.square(graph.initializers[weight.tensor].numpy().astype(np.float64)).swapaxes(0, weight.axis)
        groups = _groups(weight.node)
        by_group = values.reshape(groups, len(values) // groups, values.shape[1], -1)
        name = weight.node.inputs[0]
        found[name] = found.get(name, 0) + by_group.sum(axis=(1, 3)).reshape(-1)
    return found


def channel_classes(graph: Graph, activations: Iterable[str]) -> list[frozenset[str]]:
    """Sets of tensors whose channels must have the same factors, those with an activation to quantize."""
    links, by_weight = [], dict[str, list[Node]]()
    for node in graph.nodes:
        if node.op_type in ("Conv", "Gemm"):
            by_weight.setdefault(node.inputs[1], []).append(node)
        elif node.op_type in _SAME_CHANNELS:
            inputs = node.inputs if node.op_type == "Add" else node.inputs[:1]
            links.append({*inputs, *node.outputs})
        else:
            raise ValueError(f"{node.label()}: not known whether channels stay")
    for nodes in by_weight.values():
        links += [{node.inputs[0] for node in nodes}, {node.outputs[0] for node in nodes}]
    merged: list[set[str]] = []
    for link in links:
        touching = [one for one in merged if one & link]
        merged = [one for one in merged if not one & link] + [link.union(*touching)]
    wanted = set(activations)
    return [frozenset(one) for one in merged if one & wanted]


def equalize(graph: Graph, classes: Classes) -> None:
    """Fold the factors into the weights and biases."""
    of = {name: (number, factors) for number, (group, factors) in enumerate(classes) for name in group}
    plain, made = dict(graph.initializers), dict[tuple[str, int, int], str]()
    ones = (-1, None)
    for node in [one for one in graph.nodes if one.op_type in ("Conv", "Gemm")]:
        (read, read_by), (written, write_by) = of.get(node.inputs[0], ones), of.get(node.outputs[0], ones)
        for index, name in enumerate(node.inputs[1:], 1):
            key = (name, read if index == 1 else -1, written)
            if key not in made:
                values = plain[name].numpy().astype(np.float64)
                if write_by is not None:
                    values = (values.swapaxes(0, -1) * write_by).swapaxes(0, -1)
                if read_by is not None and index == 1:
                    by_group = values.reshape(_groups(node), -1, *values.shape[1:])
                    divisors = read_by.reshape(_groups(node), 1, -1, *[1] * (values.ndim - 2))
                    values = (by_group / divisors).reshape(values.shape)
                made[key] = f"{name}_equalized_{len(made)}"
                graph.initializers[made[key]] = Tensor.from_numpy(made[key], values.astype(np.float32))
            node.inputs[index] = made[key]
    graph.prune()


def _groups(node: Node) -> int:
    groups = node.attributes.get("group", 1)
    assert isinstance(groups, int)
    return groups


if __name__ == "__main__":
    main()
