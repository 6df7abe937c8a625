"""Equalized channels leave the float network as it is, bit for bit where the factors are powers of two."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmx4trt.ir.model import Model
from cmx4trt.networks.retinanet.onnx_import import network_from_detector
from cmx4trt.networks.retinanet.random_weights import Topology, model_from_seed
from cmx4trt.networks.retinanet.spec import Body, DetectorSpec
from cmx4trt.quantize import place
from cmx4trt.requests.build import BuildRequest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def equalization() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        return import_module("equalization")


def detector() -> Model:
    body = Body(stem=4, blocks=(1, 1, 1, 1), width=4, groups=2, pyramid=4, tower=1)
    topology = Topology(128, body, DetectorSpec(classes=5))
    options = BuildRequest.from_values({"network": "retinanet", "precision": "fp32"}).graph_options()
    return network_from_detector(model_from_seed(1, topology), topology.spec(), options).model


def test_the_float_network_stays_bit_for_bit(equalization: Any) -> None:
    model, rng = detector(), np.random.default_rng(3)
    image = rng.standard_normal((1, 3, 128, 128)).astype(np.float32)
    before, counts = equalization.outputs(model, image), equalization.counted(model, image)
    activations = place(model.graph).activations
    classes = []
    for group in equalization.channel_classes(model.graph, activations):
        channels = len(counts[next(name for name in activations if name in group)])
        fixed = model.graph.inputs[0].name in group
        classes.append((group, np.ones(channels) if fixed else 2.0 ** rng.integers(0, 5, channels)))
    equalization.equalize(model.graph, classes)
    after = equalization.outputs(model, image)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    changed = equalization.counted(model, image)
    assert sum(not np.array_equal(counts[name], changed[name]) for name in activations) > len(activations) // 2


def test_levels_that_share_weights_share_factors(equalization: Any) -> None:
    model = detector()
    groups = equalization.channel_classes(model.graph, place(model.graph).activations)
    shared: dict[str, list[str]] = {}
    for node in model.graph.nodes:
        if node.op_type == "Conv":
            shared.setdefault(node.inputs[1], []).append(node.inputs[0])
    for inputs in shared.values():
        assert any(group.issuperset(inputs) for group in groups)
