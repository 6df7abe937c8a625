"""A small residual network with everything that ResNet-50 has, quantized for the builder hopper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx.parser
import pytest

from cmx4trt.backends.hopper.lowering import FLAVOR, lower
from cmx4trt.base.progress import Silent
from cmx4trt.graph.network import CanonicalGraph
from cmx4trt.graph.spec import ModelSpec
from cmx4trt.ir.model import Model, Tensor
from cmx4trt.ir.onnx_file import decode_model
from cmx4trt.networks.graphs import prepared_from_network
from cmx4trt.quantize import quantize_network
from cmx4trt.requests.build import BuildRequest

TOY = """<ir_version: 9, opset_import: ["" : 19]>
g (float[N,3,32,32] input) => (float[N,K] logits) {
    c1 = Conv <pads = [3, 3, 3, 3], strides = [2, 2]> (input, w1, b1)
    r1 = Relu (c1)
    p1 = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (r1)
    c2 = Conv (p1, w2, b2)
    r2 = Relu (c2)
    c3 = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (r2, w3, b3)
    r3 = Relu (c3)
    c4 = Conv (r3, w4)
    d4 = Conv <strides = [2, 2]> (p1, w5, b5)
    a4 = Add (c4, d4)
    r4 = Relu (a4)
    c6 = Conv (r4, w6, b6)
    r6 = Relu (c6)
    c7 = Conv <pads = [1, 1, 1, 1]> (r6, w7, b7)
    r7 = Relu (c7)
    c8 = Conv (r7, w8, b8)
    a8 = Add (r4, c8)
    r8 = Relu (a8)
    g = GlobalAveragePool (r8)
    f = Flatten (g)
    logits = Gemm <transB = 1> (f, w9, b9)
}"""
SHAPES = {
    "w1": (8, 3, 7, 7),
    "b1": (8,),
    "w2": (8, 8, 1, 1),
    "b2": (8,),
    "w3": (8, 8, 3, 3),
    "b3": (8,),
    "w4": (16, 8, 1, 1),
    "w5": (16, 8, 1, 1),
    "b5": (16,),
    "w6": (8, 16, 1, 1),
    "b6": (8,),
    "w7": (8, 8, 3, 3),
    "b7": (8,),
    "w8": (16, 8, 1, 1),
    "b8": (16,),
    "w9": (10, 16),
    "b9": (10,),
}


@dataclass(frozen=True)
class Toy:
    """The Q/DQ graph of ``text`` with random constants."""

    model: Model

    def lowered(self) -> Any:
        return lower(self.model)


@pytest.fixture
def hopper_toy(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Toy]:
    """Makes the network from TOY with ``old`` replaced by ``new`` and constants of other ``shapes``."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("ranges")))

    def make(old: str = "", new: str = "", shapes: dict[str, tuple[int, ...]] | None = None, **options: object) -> Toy:
        assert old in TOY
        text = TOY.replace(old, new) if old else TOY
        model = decode_model(onnx.parser.parse_model(text).SerializeToString())
        generator = np.random.default_rng(3)
        for name, shape in {**SHAPES, **(shapes or {})}.items():
            values = generator.standard_normal(shape) * (2 / max(np.prod(shape[1:]), 1)) ** 0.5
            model.graph.initializers[name] = Tensor.from_numpy(name, values.astype(np.float32))
        network = CanonicalGraph(model, ModelSpec("resnet50", "a small network", (3, 32, 32), 1000))
        values = {"calibration_data": "random", "calibration_count": 2, "calibration_method": "minmax"}
        request = BuildRequest.from_values({"random_weights": 0, "precision": "int8", **values, **options})
        quantize_network(network, request, Silent(), FLAVOR)
        return Toy(prepared_from_network(network, request, FLAVOR.rest).model)

    return make
