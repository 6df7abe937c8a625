"""Top-1 and SQNR of INT8 on held-out images: our methods, ONNX Runtime's quantizer and Model Optimizer, on trained networks.

    python benchmarks/int8_accuracy.py FOLDER [FOLDER …] [--images 1000] [--calibration 64] [--noise 1] [--modelopt PYTHON]

Each FOLDER contains the parts written by train_resnet50.py. The images are regenerated from their seed (textures.py), so
nothing else is needed; ``--noise`` above 1 makes them harder, so that the network is no longer certain and small errors matter.
Everything runs in ONNX Runtime on the CPU, where float16 is slow, so the network with float32 for everything except the int8
layers is measured. All tools get the same network (batch normalization folded) and calibration images, and quantize
symmetrically, weights per output channel, unless the row says otherwise. ``--modelopt`` is the Python of an environment with
Model Optimizer (pip install nvidia-modelopt[onnx]).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import textures
from calibration import run_ort
from onnx import numpy_helper

from cmx4trt.base.progress import Silent
from cmx4trt.graph.network import CanonicalGraph
from cmx4trt.ir.onnx_file import decode_model, encode_model
from cmx4trt.networks import spec_of
from cmx4trt.networks.graphs import network_from_model
from cmx4trt.quantize import calibrate, place, quantize_network
from cmx4trt.requests.build import BuildRequest
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

CALIBRATION_SEED = 22
"""A series other than the held-out and the training images."""
OURS = ("minmax", "percentile", "entropy", "mse")
ONNXRUNTIME = ("MinMax", "Entropy", "Percentile")


@dataclass(frozen=True)
class Trained:
    """A trained network as ONNX (imported by this package: batch normalization folded), with a record of its training."""

    name: str
    model: bytes
    facts: dict[str, Any]
    calibration: Path

    def network(self) -> CanonicalGraph:
        """The canonical float32 network."""
        options = BuildRequest.from_values({"precision": "fp32"}).graph_options()
        return network_from_model(decode_model(self.model), spec_of("resnet50"), options)

    def preprocess(self, images: Any) -> Any:
        """uint8 [B, 3, H, W] -> the network's input."""
        return textures.preprocess(images, self.facts.get("std", 1.0))


def main() -> None:
    options = read_options()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder  # the times below are those of a first calibration
        for trained_folder in options.folders:
            trained = read_trained(trained_folder, Path(folder), options.calibration)
            measure(trained, options, Path(folder))


def measure(trained: Trained, options: argparse.Namespace, folder: Path) -> None:
    """Print one network's table."""
    seed, classes = trained.facts["held_out_seed"], trained.facts["classes"]
    images = [textures.held_out(seed, i, 1, options.noise) for i in range(options.images)]
    labels = np.concatenate([label for _, label in images]) % classes
    inputs = [trained.preprocess(image) for image, _ in images]
    expected = run(encoded(trained.network()), inputs)
    base = top1(expected, labels)
    what = f"{classes} classes, {options.images} held-out images with {options.noise:g} x the training's noise"
    print(f"\n{trained.name}: {what}; FP32 top-1 {base:.4f}", flush=True)
    print("| INT8 | top-1 | same class as FP32 | median SQNR dB | lowest | quantize s |\n|---|---|---|---|---|---|")
    for name, quantized in cases(trained, options, folder):
        if options.only and not any(part in name for part in options.only):
            continue
        began = time.perf_counter()
        graph = quantized()
        seconds = time.perf_counter() - began
        got = run(graph, inputs)
        noise = sorted(sqnr(*pair) for pair in zip(expected, got, strict=True))
        same = (got.argmax(1) == expected.argmax(1)).mean()
        cells = [name, f"{top1(got, labels):.4f}", f"{same:.4f}", f"{statistics.median(noise):.1f}", f"{noise[0]:.1f}"]
        print("| " + " | ".join([*cells, f"{seconds:.0f}"]) + " |", flush=True)


def cases(
    trained: Trained, options: argparse.Namespace, folder: Path
) -> list[tuple[str, Callable[[], OnnxRuntimeSession]]]:
    """Name -> the function that quantizes."""
    plain, model = folder / "plain.onnx", trained.network().model
    for number, node in enumerate(model.graph.nodes):
        node.name = node.name or f"node_{number}"
    plain.write_bytes(encode_model(model, None).message)

    output = folder / "peer.onnx"
    files = (str(plain), str(trained.calibration), str(output), "resnet50")

    def onnxruntime(method: str, symmetric: bool = True) -> Callable[[], OnnxRuntimeSession]:
        def quantized() -> OnnxRuntimeSession:
            run_ort(*files, method, symmetric)
            return OnnxRuntimeSession.from_bytes(output.read_bytes())

        return quantized

    def model_optimizer(method: str) -> Callable[[], OnnxRuntimeSession]:
        def quantized() -> OnnxRuntimeSession:
            here = Path(__file__).parent
            command = [options.modelopt, str(here / "calibration.py"), "modelopt", *files, method]
            environment = {**os.environ, "PYTHONPATH": str(here.parent)}
            subprocess.run(command, check=True, capture_output=True, env=environment)
            return OnnxRuntimeSession.from_bytes(output.read_bytes())

        return quantized

    found = [(f"{method}", ours(trained, method, folder)) for method in OURS]
    found += [(f"{method}, no bias correction", ours(trained, method, folder, False)) for method in OURS]
    found += [(f"ONNX Runtime {method}", onnxruntime(method)) for method in ONNXRUNTIME]
    found.append(("ONNX Runtime MinMax, asymmetric", onnxruntime("MinMax", symmetric=False)))
    if options.modelopt:
        found += [(f"Model Optimizer {method}", model_optimizer(method)) for method in ("max", "entropy")]
    return found


def ours(trained: Trained, method: str, folder: Path, corrected: bool = True) -> Callable[[], OnnxRuntimeSession]:
    """This package's quantization, with or without bias correction."""

    def quantized() -> OnnxRuntimeSession:
        values: dict[str, Any] = {"precision": "int8", "calibration_method": method}
        values["calibration_data"] = str(trained.calibration)
        request, network = BuildRequest.from_values(values), trained.network()
        if not corrected:
            found = calibrate(network, place(network.model.graph), request, Silent())
            cache = folder / "ranges.json"
            cache.write_text(replace(found.ranges, means={}).to_json())
            request = BuildRequest.from_values({"precision": "int8", "calibration_cache": str(cache)})
        quantize_network(network, request, Silent())
        return encoded(network)

    return quantized


def encoded(network: CanonicalGraph) -> OnnxRuntimeSession:
    return OnnxRuntimeSession.from_graph(encode_model(network.model))


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--images", type=int, default=1000, help="held-out images")
    parser.add_argument("--calibration", type=int, default=64, help="calibration images")
    parser.add_argument(
        "--noise", type=float, default=1.0, help="noise of the held-out images relative to the training's"
    )
    parser.add_argument("--modelopt", help="Python of an environment with nvidia-modelopt")
    parser.add_argument("--only", action="append", help="only rows whose name contains this")
    return parser.parse_args()


def read_trained(folder: Path, scratch: Path, calibration: int) -> Trained:
    facts = json.loads((folder / "resnet50.json").read_text())
    found = Trained(folder.name, joined_model(folder), facts, scratch / f"{folder.name}.npy")
    np.save(found.calibration, found.preprocess(textures.held_out(CALIBRATION_SEED, 0, calibration)[0]))
    return found


def joined_model(folder: Path) -> bytes:
    """The ONNX file of the parts, without the Casts after its float16 weights."""
    parts = sorted(folder.glob("resnet50.onnx.*"))
    if not parts:
        sys.exit(f"{folder} contains no resnet50.onnx.000; run train_resnet50.py first")
    proto = onnx.load_from_string(b"".join(part.read_bytes() for part in parts))
    halves = {tensor.name: tensor for tensor in proto.graph.initializer if tensor.name.endswith(".half")}
    for node in [n for n in proto.graph.node if n.op_type == "Cast" and n.input[0] in halves]:
        values = numpy_helper.to_array(halves[node.input[0]]).astype(np.float32)
        halves[node.input[0]].CopyFrom(numpy_helper.from_array(values, node.output[0]))
        proto.graph.node.remove(node)
    return bytes(proto.SerializeToString())


def run(session: OnnxRuntimeSession, inputs: list[Any]) -> Any:
    """The logits [N, classes]."""
    rows = [session.run({session.inputs[0]: image})["logits"] for image in inputs]
    return np.concatenate(rows).astype(np.float64)


def top1(logits: Any, labels: Any) -> float:
    return float((logits.argmax(1) == labels).mean())


def sqnr(expected: Any, got: Any) -> float:
    """10 log10 of signal over error energy of one image's logits."""
    return float(10 * np.log10(np.square(expected).sum() / np.square(got - expected).sum()))


if __name__ == "__main__":
    main()
