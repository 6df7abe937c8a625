"""Stand-ins for libraries that need a GPU (see tests/data/fake_*), and small networks."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import cmx4trt as the_package
from cmx4trt.cli import main
from cmx4trt.graph.network import CanonicalGraph, PreparedGraph
from cmx4trt.graph.spec import ModelSpec
from cmx4trt.ir.model import Model, Tensor
from cmx4trt.ir.onnx_file import decode_model, encode_model
from cmx4trt.networks import model_from_seed, spec_of
from cmx4trt.networks.graphs import network_from_model, prepared_from_network
from cmx4trt.networks.retinanet import random_weights
from cmx4trt.networks.retinanet.random_weights import Topology
from cmx4trt.networks.retinanet.spec import Body, DetectorSpec
from cmx4trt.requests.build import BuildRequest

DATA = Path(__file__).parents[1] / "data"


def _forget(name: str) -> None:
    for module in [m for m in sys.modules if m.split(".")[0] == name]:
        del sys.modules[module]


def _forget_device() -> None:
    from cmx4trt.devices.driver import local_gpu, open_device

    local_gpu.cache_clear()
    open_device.cache_clear()


@pytest.fixture
def fake_pycuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """``import pycuda.driver`` gives the stand-in, anew for every test; yields it. At the end, no context may be current."""
    monkeypatch.syspath_prepend(DATA / "fake_pycuda")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    _forget("pycuda")
    _forget_device()
    driver = import_module("pycuda.driver")
    yield driver
    assert not driver._stack(), "a CUDA context was left current"
    _forget("pycuda")
    _forget_device()


@pytest.fixture
def fake_tensorrt(
    monkeypatch: pytest.MonkeyPatch, fake_pycuda: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ModuleType]:
    """``import tensorrt`` gives the stand-in, anew for every test, and its version counts as installed; yields it."""
    monkeypatch.syspath_prepend(DATA / "fake_tensorrt")
    _forget("tensorrt")
    module = import_module("tensorrt")
    metadata = tmp_path_factory.mktemp("installed")
    (metadata / f"tensorrt-{module.__version__}.dist-info").mkdir()
    monkeypatch.syspath_prepend(metadata)
    yield module
    _forget("tensorrt")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[object], Path]:
    """Makes this copy of the package one in site-packages, with what pip recorded about where it is from; gives its folder."""

    def install(recorded: object = None) -> Path:
        package = tmp_path / "site-packages" / "cmx4trt"
        package.mkdir(parents=True)
        monkeypatch.setattr(the_package, "__file__", str(package / "__init__.py"))
        text = None if recorded is None else json.dumps(recorded)
        found = type("Found", (), {"read_text": lambda self, name: text})()
        monkeypatch.setattr("importlib.metadata.distribution", lambda name: found)
        return package

    return install


class ToyDetector:
    """A RetinaNet with all of its structure and few channels: tenths of a second to prepare and run."""

    detector = DetectorSpec(
        classes=3, score_threshold=0.012, candidates=60, detections=50, nms_block=60, nms_iterations=8
    )
    body = Body(stem=8, blocks=(1, 1, 1, 1), width=8, groups=2, pyramid=8, tower=1)
    topology = Topology(image_size=128, body=body, detector=detector)
    spec: ModelSpec = topology.spec()

    def model(self, seed: int = 1) -> Model:
        """The network in the form of the file that users have."""
        return random_weights.model_from_seed(seed, self.topology)

    def request(self, **options: object) -> BuildRequest:
        return BuildRequest.from_values({"network": "retinanet", "precision": "fp32", **options})

    def network(self, model: Model, **options: object) -> CanonicalGraph:
        return network_from_model(model, self.spec, self.request(**options))

    def prepared(self, model: Model, **options: object) -> PreparedGraph:
        return prepared_from_network(self.network(model, **options), self.request(**options))

    def message(self, model: Model) -> bytes:
        return encode_model(model, None).message


@pytest.fixture(scope="session")
def toy_detector() -> ToyDetector:
    return ToyDetector()


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


@pytest.fixture(scope="session")
def resnet50() -> CanonicalGraph:
    """The canonical network with random weights; tests copy its model before they edit it."""
    request = BuildRequest.from_values({"random_weights": 0})
    return network_from_model(model_from_seed("resnet50", 0), spec_of("resnet50"), request)


@pytest.fixture
def cmx4trt(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., tuple[int, str, dict[str, Any]]]:
    """Runs a command in this process: exit code, everything printed, and ``result.json``, which ``--result`` may have written."""

    def run(*arguments: object) -> tuple[int, str, dict[str, Any]]:
        result = tmp_path / "result.json"
        result.unlink(missing_ok=True)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            code = main([*map(str, arguments)])
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        captured = capsys.readouterr()
        return code, captured.out + captured.err, json.loads(result.read_text()) if result.exists() else {}

    return run
