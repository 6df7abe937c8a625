"""Top-1 of FP32 and INT8 on held-out images, for the network trained by train_resnet50.py.

    python benchmarks/int8_accuracy.py FOLDER [--images 1000] [--calibration 64]

FOLDER contains that script's parts. The images are regenerated from their seed (textures.py), so nothing else is needed: once
as in training, once with more noise, so that the network is no longer certain and small errors matter. Everything runs in ONNX
Runtime on the CPU, where float16 is slow; so the network with float32 for everything except the int8 layers is measured, and
the graph that a builder gets (with float16 instead) is compared with it on a few images.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import textures
from onnx import numpy_helper

from cmx4trt.base.progress import Silent
from cmx4trt.ir.onnx_file import decode_model, encode_model
from cmx4trt.networks import spec_of
from cmx4trt.networks.graphs import network_from_model, prepared_from_network
from cmx4trt.quantize import quantize_network
from cmx4trt.requests.build import BuildRequest
from cmx4trt.sessions.base import Session
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

CALIBRATION_SEED = 22
"""A series other than the held-out and the training images."""
CLASSES_OF_FILE = 1000
"""The package expects ResNet-50 with ImageNet's 1000 classes; untrained classes get a logit that never wins."""
NEVER = -100.0
NOISE_FACTORS = (1.0, 3.0)
BUILT_IMAGES = 16
CASES = {
    "minmax": {"calibration_method": "minmax"},
    "percentile": {"calibration_method": "percentile"},
    "entropy": {"calibration_method": "entropy"},
    "mse": {"calibration_method": "mse"},
    "mse, keep_fp16=auto": {"calibration_method": "mse", "keep_fp16": "auto"},
}


def main() -> None:
    options = read_options()
    trained = json.loads((options.folder / "resnet50.json").read_text())
    model = joined_model(options.folder)
    request = BuildRequest.from_values({"precision": "fp32"})
    network = network_from_model(decode_model(model), spec_of("resnet50"), request.graph_options())
    fp32 = OnnxRuntimeSession.from_graph(encode_model(network.model))
    print(
        f"trained network: top-1 {trained['top1']:.4f} on {trained['images']} held-out images (PyTorch, {trained['device']})"
    )
    with tempfile.TemporaryDirectory() as folder:
        # A separate cache, so that the times below are those of a first calibration.
        os.environ["XDG_CACHE_HOME"] = folder
        data = Path(folder, "calibration.npy")
        np.save(data, textures.preprocess(textures.held_out(CALIBRATION_SEED, 0, options.calibration)[0]))
        results = {name: quantized(model, {**case, "calibration_data": str(data)}) for name, case in CASES.items()}
    for noise in NOISE_FACTORS:
        images = [textures.held_out(trained["held_out_seed"], i, 1, noise) for i in range(options.images)]
        print_results(fp32, results, images, noise)


def print_results(fp32: Session, results: dict[str, Result], images: list[tuple[Any, Any]], noise: float) -> None:
    labels = np.concatenate([label for _, label in images])
    expected = run(fp32, images)
    base = top1(expected, labels)
    print(f"\nheld-out images with {noise:g} x the training's noise; FP32 top-1 on {len(labels)} images: {base:.4f}")
    print(
        "| INT8 | top-1 | relative to FP32 | same class | SQNR dB | built graph: same class | layers in int8 | quantize s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, result in results.items():
        got = run(result.session, images)
        few = images[:BUILT_IMAGES]
        built = (run(result.built, few).argmax(1) == got[: len(few)].argmax(1)).mean()
        same = (got.argmax(1) == expected.argmax(1)).mean()
        cells = [name, f"{top1(got, labels):.4f}", f"{top1(got, labels) / base:.4f}", f"{same:.4f}"]
        cells += [f"{sqnr(expected, got):.1f}", f"{built:.2f} of {len(few)}", result.layers, f"{result.seconds:.1f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=1000, help="held-out images")
    parser.add_argument("--calibration", type=int, default=64, help="calibration images")
    return parser.parse_args()


def joined_model(folder: Path) -> bytes:
    """The ONNX file of the parts, with float32 weights and CLASSES_OF_FILE classes."""
    parts = sorted(folder.glob("resnet50.onnx.*"))
    if not parts:
        sys.exit(f"{folder} contains no resnet50.onnx.000; run train_resnet50.py first")
    proto = onnx.load_from_string(b"".join(part.read_bytes() for part in parts))
    halves = {tensor.name: tensor for tensor in proto.graph.initializer if tensor.name.endswith(".half")}
    for node in [n for n in proto.graph.node if n.op_type == "Cast" and n.input[0] in halves]:
        values = numpy_helper.to_array(halves[node.input[0]]).astype(np.float32)
        halves[node.input[0]].CopyFrom(numpy_helper.from_array(values, node.output[0]))
        proto.graph.node.remove(node)
    widen_classes(proto)
    return bytes(proto.SerializeToString())


def widen_classes(proto: onnx.ModelProto) -> None:
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    last = next(node for node in proto.graph.node if node.op_type == "Gemm")
    weight, bias = (numpy_helper.to_array(constants[name]) for name in last.input[1:3])
    more = CLASSES_OF_FILE - len(bias)
    constants[last.input[1]].CopyFrom(numpy_helper.from_array(np.pad(weight, ((0, more), (0, 0))), last.input[1]))
    padded = np.pad(bias, (0, more), constant_values=np.float32(NEVER))
    constants[last.input[2]].CopyFrom(numpy_helper.from_array(padded, last.input[2]))
    dims = proto.graph.output[0].type.tensor_type.shape.dim
    dims[len(dims) - 1].dim_value = CLASSES_OF_FILE


@dataclass(frozen=True)
class Result:
    """An INT8 network: with float32 for the rest, which ONNX Runtime runs fast, and as a builder gets it."""

    session: Session
    built: Session
    layers: str
    seconds: float


def quantized(model: bytes, values: dict[str, Any]) -> Result:
    request = BuildRequest.from_values({"precision": "int8", **values})
    began = time.perf_counter()
    network = network_from_model(decode_model(model), spec_of("resnet50"), request.graph_options())
    report = quantize_network(network, request, Silent())
    seconds = time.perf_counter() - began
    session = OnnxRuntimeSession.from_graph(encode_model(network.model))
    built = OnnxRuntimeSession.from_graph(prepared_from_network(network, request.graph_options()).encoded)
    return Result(session, built, f"{report.quantized_layers} of {report.layers}", seconds)


def run(session: Session, images: list[tuple[Any, Any]]) -> Any:
    """The logits [N, classes] of the trained classes."""
    rows = [session.run({"input": textures.preprocess(image)})["logits"] for image, _ in images]
    return np.concatenate(rows)[:, : textures.CLASSES].astype(np.float64)


def top1(logits: Any, labels: Any) -> float:
    return float((logits.argmax(1) == labels).mean())


def sqnr(expected: Any, got: Any) -> float:
    return float(10 * np.log10(np.square(expected).sum() / np.square(got - expected).sum()))


if __name__ == "__main__":
    main()
