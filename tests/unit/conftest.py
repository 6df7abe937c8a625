"""Stand-ins for libraries that need a GPU; see tests/data/fake_*."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from cmx4trt.graph import network_from_model, prepared_from_network
from cmx4trt.graph.network import Network, PreparedGraph
from cmx4trt.ir.model import Model
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.models.retinanet import DetectorSpec
from cmx4trt.models.retinanet_random import Topology, model_from_seed
from cmx4trt.models.spec import ModelSpec
from cmx4trt.request import BuildRequest

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
def fake_tensorrt(monkeypatch: pytest.MonkeyPatch, fake_pycuda: ModuleType) -> Iterator[ModuleType]:
    """``import tensorrt`` gives the stand-in, anew for every test; yields it."""
    monkeypatch.syspath_prepend(DATA / "fake_tensorrt")
    _forget("tensorrt")
    module = import_module("tensorrt")
    monkeypatch.setattr("cmx4trt.backends.tensorrt.native.installed_version", lambda names: module.__version__)
    yield module
    _forget("tensorrt")


class ToyDetector:
    """A RetinaNet with all of its structure and few channels: tenths of a second to prepare and run."""

    detector = DetectorSpec(
        classes=3, score_threshold=0.012, candidates=60, detections=50, nms_block=60, nms_iterations=8
    )
    topology = Topology(
        image_size=128, stem=8, blocks=(1, 1, 1, 1), width=8, groups=2, pyramid=8, tower=1, detector=detector
    )
    spec: ModelSpec = topology.spec()

    def model(self, seed: int = 1) -> Model:
        """The network in the form of the file that users have."""
        return model_from_seed(seed, self.topology)

    def request(self, **options: object) -> BuildRequest:
        return BuildRequest.from_values({"network": "retinanet", "precision": "fp32", **options})

    def network(self, model: Model, **options: object) -> Network:
        return network_from_model(model, self.spec, self.request(**options))

    def prepared(self, model: Model, **options: object) -> PreparedGraph:
        return prepared_from_network(self.network(model, **options), self.request(**options))

    def message(self, model: Model) -> bytes:
        return encode_model(model, None).message


@pytest.fixture(scope="session")
def toy_detector() -> ToyDetector:
    return ToyDetector()
