"""Small networks for quantization: ONNX text with seeded constants, and a residual network that runs in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from cmx4trt.graph import network_from_model
from cmx4trt.graph.network import Network
from cmx4trt.ir.model import Model, Tensor
from cmx4trt.ir.onnx_file import decode_model
from cmx4trt.models import model_from_seed, spec_of
from cmx4trt.models.spec import ModelSpec, Task
from cmx4trt.request import BuildRequest

TextModel = Callable[..., Model]

RESIDUAL = """
    c1 = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
    r1 = Relu (c1)
    p1 = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r1)
    c2 = Conv <pads = [1, 1, 1, 1]> (p1, w2, b2)
    r2 = Relu (c2)
    c3 = Conv <pads = [1, 1, 1, 1]> (r2, w3, b3)
    d1 = Conv (p1, w4)
    a1 = Add (c3, d1)
    r3 = Relu (a1)
    c5 = Conv <pads = [1, 1, 1, 1]> (r3, w5, b5)
    a2 = Add (c5, r3)
    r5 = Relu (a2)
    g = GlobalAveragePool (r5)
    f = Flatten (g)
    y = Gemm <transB = 1> (f, w6, b6)
"""
RESIDUAL_SHAPES = {
    "w1": (8, 3, 3, 3),
    "b1": (8,),
    "w2": (8, 8, 3, 3),
    "b2": (8,),
    "w3": (16, 8, 3, 3),
    "b3": (16,),
    "w4": (16, 8, 1, 1),
    "w5": (16, 16, 3, 3),
    "b5": (16,),
    "w6": (5, 16),
    "b6": (5,),
}


@pytest.fixture(scope="session")
def text_model() -> TextModel:
    """Makes a model of ONNX text: input x [N, 3, 8, 8]; ``shapes`` names the constants, drawn from ``seed``."""

    def make(body: str, outputs: str = "y", shapes: dict[str, tuple[int, ...]] | None = None, seed: int = 0) -> Model:
        results = ", ".join(f"float {name}" for name in outputs.split())
        text = f'<ir_version: 9, opset_import: ["" : 19]> g (float[N,3,8,8] x) => ({results}) {{ {body} }}'
        model = decode_model(onnx.parser.parse_model(text).SerializeToString())
        for info in model.graph.outputs:  # the text's "float y" would promise a scalar
            producer = model.graph.producers()[info.name]
            info.dims = ("N", "K") if producer.op_type == "Gemm" else ("N", "M", None, None)
        rng = np.random.default_rng(seed)
        for name, shape in (shapes or {}).items():
            values = rng.standard_normal(shape) * (2 / max(np.prod(shape[1:]), 1)) ** 0.5
            model.graph.initializers[name] = Tensor.from_numpy(name, values.astype(np.float32))
        return model

    return make


@pytest.fixture
def residual(text_model: TextModel) -> Model:
    """Stem, max pool, a block with a shortcut convolution, a block without, average pool, matrix product."""
    return text_model(RESIDUAL, shapes=RESIDUAL_SHAPES)


@pytest.fixture
def residual_network(residual: Model) -> Network:
    return Network(residual, ModelSpec("toy", "Toy", Task.CLASSIFICATION, (3, 8, 8), 1000))


@pytest.fixture(scope="session")
def resnet50() -> Network:
    """The canonical network with random weights; tests copy its model before they edit it."""
    request = BuildRequest.from_values({"random_weights": 0})
    return network_from_model(model_from_seed("resnet50", 0), spec_of("resnet50"), request)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ranges are kept in the test's own folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Six images [3, 8, 8] as .npy."""
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(5)
    for index in range(6):
        np.save(folder / f"image{index}.npy", rng.standard_normal((3, 8, 8)).astype(np.float32))
    return folder
