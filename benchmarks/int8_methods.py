"""The ways to quantize a trained network that int8_accuracy.py compares: this package's, ONNX Runtime's, Model Optimizer's."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from calibration import run_ort
from trained import Trained

from cmx4trt.backends.flavor import TENSORRT, QuantizationFlavor
from cmx4trt.base.progress import Silent
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.quantize import calibrate, place, quantize_network
from cmx4trt.quantize.observe import Method
from cmx4trt.requests.build import BuildRequest

UNCORRECTED = (Method.MINMAX, Method.ENTROPY, Method.RELATIVE)
"""Methods that are also measured without bias correction."""
UNSIGNED = "relative, uint8 where nothing is negative"
"""What TensorRT does not have, and our own kernels do; it is to be compared with asymmetric ranges."""
ONNXRUNTIME = ("MinMax", "Entropy", "Percentile")
MODEL_OPTIMIZER = ("max", "entropy")
ONE_THREAD = {"CMX4TRT_BENCH_ONE_THREAD": "1"}
"""Has calibration.py's processes use one thread each."""


@dataclass(frozen=True)
class Files:
    """Where a network's cases find what they need: the float network as ONNX and the calibration images."""

    plain: Path
    images: Path
    modelopt: str | None = None
    """Python of an environment with Model Optimizer."""


Quantize = Callable[[Trained, Files, Path], None]
"""Writes the quantized network as ONNX."""


def all_cases(modelopt: bool) -> dict[str, Quantize]:
    """Title -> how to quantize."""
    cases: dict[str, Quantize] = {}
    for method in Method:
        cases[method.value] = partial(_ours, method, TENSORRT)
    for method in UNCORRECTED:
        cases[f"{method.value}, no bias correction"] = partial(_uncorrected, method)
    cases[UNSIGNED] = partial(_ours, Method.RELATIVE, replace(TENSORRT, unsigned=True))
    for name in ONNXRUNTIME:
        for symmetric in (True, False):
            title = f"ONNX Runtime {name}" + ("" if symmetric else ", asymmetric")
            cases[title] = partial(_onnxruntime, name, symmetric)
    for name in MODEL_OPTIMIZER if modelopt else ():
        cases[f"Model Optimizer {name}"] = partial(_model_optimizer, name)
    return cases


def write_plain(trained: Trained, path: Path) -> None:
    """The float32 network as ONNX, for the peers: all nodes have names."""
    model = trained.network().model
    for number, node in enumerate(model.graph.nodes):
        node.name = node.name or f"node_{number}"
    path.write_bytes(encode_model(model, None).message)


def _ours(method: Method, flavor: QuantizationFlavor, trained: Trained, files: Files, output: Path) -> None:
    """This package's quantization."""
    network = trained.network()
    quantize_network(network, _request(trained, files, method), Silent(), flavor)
    output.write_bytes(encode_model(network.model, None).message)


def _uncorrected(method: Method, trained: Trained, files: Files, output: Path) -> None:
    """The same without bias correction: from ranges without means."""
    network = trained.network()
    found = calibrate(network, place(network.model.graph), _request(trained, files, method), Silent())
    cache = output.with_suffix(".json")
    cache.write_text(replace(found.ranges, means={}).to_json())
    values = {"network": trained.kind, "precision": "int8", "calibration_cache": str(cache)}
    quantize_network(network, BuildRequest.from_values(values), Silent())
    output.write_bytes(encode_model(network.model, None).message)


def _request(trained: Trained, files: Files, method: Method) -> BuildRequest:
    values: dict[str, Any] = {"network": trained.kind, "precision": "int8", "calibration_method": method.value}
    return BuildRequest.from_values({**values, "calibration_data": str(files.images)})


def _onnxruntime(method: str, symmetric: bool, trained: Trained, files: Files, output: Path) -> None:
    own = output.with_suffix(".source.onnx")  # it writes files beside the one that it reads
    shutil.copy(files.plain, own)
    run_ort(str(own), str(files.images), str(output), trained.kind, method, symmetric)


def _model_optimizer(method: str, trained: Trained, files: Files, output: Path) -> None:
    here = Path(__file__).parent
    arguments = [str(files.plain), str(files.images), str(output), trained.kind, method]
    command = [str(files.modelopt), str(here / "calibration.py"), "modelopt", *arguments]
    paths = [str(here.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=output.parent, check=False)
    if done.returncode:
        raise RuntimeError(f"Model Optimizer {method}: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
