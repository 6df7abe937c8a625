"""How closely the specification of the builder hopper matches ONNX Runtime on the Q/DQ graph from which it was lowered.

    python benchmarks/hopper_reference.py [FOLDER] [--images 8]

Without FOLDER: random weights and random images. FOLDER contains the parts of a network trained by train_resnet50.py; then the
images are its held-out ones, and top-1 is printed, too. CPU only.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cmx4trt.backends.flavor import TENSORRT
from cmx4trt.backends.hopper import reference
from cmx4trt.backends.hopper.lowering import FLAVOR, lower
from cmx4trt.backends.hopper.network import Classifier, Network
from cmx4trt.base.progress import Silent
from cmx4trt.ir.model import DType, Model, ValueInfo
from cmx4trt.ir.onnx_file import decode_model, encode_model
from cmx4trt.networks import model_from_seed, spec_of
from cmx4trt.networks.graphs import network_from_model, prepared_from_network
from cmx4trt.quantize import quantize_network
from cmx4trt.quantize.random_samples import RandomSamples
from cmx4trt.requests.build import BuildRequest
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

CALIBRATION_IMAGES = 8
CALIBRATION_SEED = 22


@dataclass(frozen=True)
class Lowered:
    """The float32 network, its Q/DQ graph, and the operations."""

    float32: Model
    graph: Model
    network: Network


def network_for(model: Model, **options: object) -> Lowered:
    """A ResNet-50 (consumed), quantized according to ``options`` and lowered."""
    request = BuildRequest.from_values({"precision": "int8", **options})
    found = network_from_model(model, spec_of("resnet50"), request.graph_options())
    exact = found.model.copy()
    quantize_network(found, request, Silent(), FLAVOR)
    graph = prepared_from_network(found, request.graph_options(), FLAVOR.rest).model
    return Lowered(exact, graph, lower(graph))


def main() -> None:
    options = read_options()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        if options.folder is None:
            samples = RandomSamples((3, 224, 224), 2 * CALIBRATION_IMAGES + options.images)
            images = [samples.read(2 * CALIBRATION_IMAGES + index) for index in range(options.images)]
            asked: dict[str, object] = {
                "calibration_data": "random",
                "calibration_count": CALIBRATION_IMAGES,
                "random_weights": 0,
            }
            report("random weights", network_for(model_from_seed("resnet50", 0), **asked), images, None)
            print_flavors(lambda: model_from_seed("resnet50", 0), asked, images)
        else:
            report_trained(options.folder, options.images, Path(folder))


def report_trained(folder: Path, count: int, scratch: Path) -> None:
    import textures
    from trained import joined_model

    trained = json.loads((folder / "resnet50.json").read_text())
    data = scratch / "calibration.npy"
    np.save(data, textures.preprocess(textures.held_out(CALIBRATION_SEED, 0, 64)[0]))
    asked: dict[str, object] = {"calibration_data": str(data)}
    found = network_for(decode_model(joined_model(folder)), **asked)
    pairs = [textures.held_out(trained["held_out_seed"], index, 1) for index in range(count)]
    labels = np.concatenate([label for _, label in pairs])
    images = [textures.preprocess(image) for image, _ in pairs]
    report("trained network", found, images, labels)
    print_flavors(lambda: decode_model(joined_model(folder)), asked, images)


def report(title: str, found: Lowered, images: list[Any], labels: Any) -> None:
    logits: dict[str, Any] = {
        "FP32": run_logits(found.float32, images),
        "ONNX Runtime, INT8": run_logits(found.graph, images),
        "ONNX Runtime, INT8 with its integer kernels": run_fused(found.graph, images),
    }
    began = time.process_time()
    logits["specification"] = np.concatenate([reference.run(found.network, image).logits for image in images])
    seconds = (time.process_time() - began) / len(images)
    print(f"{title}, {len(images)} images; the specification takes {seconds:.1f} s of processor time per image\n")
    print(
        "| | SQNR relative to FP32, dB | same class as FP32 | SQNR relative to ONNX Runtime's INT8, dB | same class | top-1 |"
    )
    print("|---|---|---|---|---|---|")
    for name, values in logits.items():
        compared = [text for other in ("FP32", "ONNX Runtime, INT8") for text in agreement(logits[other], values)]
        top1 = "" if labels is None else f"{(values.argmax(1) == labels).mean():.4f}"
        print(f"| {name} | {' | '.join(compared)} | {top1} |")
    print_operations(found, images[0])


def print_flavors(model: Callable[[], Model], asked: dict[str, object], images: list[Any]) -> None:
    """The effect of each choice of the flavor on the logits; everything except the INT8 layers is float32."""
    flavors = {
        "TensorRT's": replace(TENSORRT, rest=FLAVOR.rest),
        "Hopper's, last matrix product in float32": replace(FLAVOR, classifier=False),
        "Hopper's": FLAVOR,
    }
    request = BuildRequest.from_values({"precision": "int8", **asked})
    exact = None
    print("\n| flavor | SQNR relative to FP32, dB | same class |\n|---|---|---|")
    for name, flavor in flavors.items():
        network = network_from_model(model(), spec_of("resnet50"), request.graph_options())
        exact = run_logits(network.model, images) if exact is None else exact
        quantize_network(network, request, Silent(), flavor)
        print(f"| {name} | {' | '.join(agreement(exact, run_logits(network.model, images)))} |")


def run_logits(model: Model, images: list[Any]) -> Any:
    session = OnnxRuntimeSession.from_graph(encode_model(model))
    return np.concatenate([session.run({"input": image})["logits"] for image in images])


def agreement(expected: Any, found: Any) -> tuple[str, str]:
    error = np.square(found.astype(np.float64) - expected).sum()
    decibels = 10 * np.log10(np.square(expected.astype(np.float64)).sum() / error) if error else float("inf")
    return f"{decibels:.1f}", f"{(expected.argmax(1) == found.argmax(1)).mean():.3f}"


def print_operations(found: Lowered, image: Any) -> None:
    """Activations of one image: each operation on ONNX Runtime's inputs, and the whole network on its own."""
    theirs = stored_by_onnx_runtime(found.graph, image)
    whole = reference.run(found.network, image, keep=True).activations
    shares: dict[str, list[float]] = {}
    for operation in found.network.operations:
        if not isinstance(operation, Classifier):
            alone = reference.run_operation(found.network, operation, theirs)
            difference = np.abs(alone.astype(int) - theirs[operation.output])
            assert difference.max() <= 1, operation.name
            addend = getattr(operation, "addend", None)
            kind = type(operation if addend is None else addend).__name__
            shares.setdefault(kind, []).append(float((difference > 0).mean()))
            last = operation.input
    print("\n| operation on ONNX Runtime's inputs | values that differ, by one step: mean | maximum |\n|---|---|---|")
    for kind, values in shares.items():
        print(f"| {kind} | {np.mean(values):.4%} | {max(values):.4%} |")
    difference = np.abs(whole[last].astype(int) - theirs[last])
    print(
        f"\nlast feature map of the whole network: {(difference == 0).mean():.0%} equal, maximum difference {difference.max()}"
    )


def stored_by_onnx_runtime(model: Model, image: Any) -> dict[str, Any]:
    """Every stored activation [N, H, W, C] by name."""
    copy = model.copy()
    graph = copy.graph
    stored = {node.inputs[0]: node.outputs[0] for node in graph.nodes if node.op_type == "QuantizeLinear"}
    graph.outputs = [
        ValueInfo(value, DType.INT8 if name == graph.inputs[0].name else DType.UINT8, None)
        for name, value in stored.items()
    ]
    values = OnnxRuntimeSession.from_graph(encode_model(copy)).run({graph.inputs[0].name: image})
    images = {name: values[value] for name, value in stored.items()}
    return {name: v.reshape(*v.shape[:2], *v.shape[2:] or (1, 1)).transpose(0, 2, 3, 1) for name, v in images.items()}


def run_fused(model: Model, images: list[Any]) -> Any:
    """The logits computed with ONNX Runtime's integer kernels, which this package's sessions do not use."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(encode_model(model, None).message, options, ["CPUExecutionProvider"])
    return np.concatenate([session.run(["logits"], {"input": image})[0] for image in images])


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--images", type=int, default=8)
    return parser.parse_args()


if __name__ == "__main__":
    main()
