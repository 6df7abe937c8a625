"""The data of RetinaNet and the networks drawn from a seed."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from math import log
from typing import Any

import numpy as np
import onnx
import pytest

from cmx4trt.ir.model import Graph, Model
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.networks import model_from_seed, spec_of
from cmx4trt.networks.retinanet.random_weights import anchor_table
from cmx4trt.networks.retinanet.spec import DETECTOR, SPEC
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession


def test_spec() -> None:
    assert spec_of("retinanet") is SPEC
    assert SPEC.input_shape == (3, 800, 800)
    assert SPEC.largest_activation == 23_760_000
    assert SPEC.max_batch_size == 90
    assert DETECTOR.max_log_ratio == pytest.approx(log(62.5))
    # The graph compares products instead of quotients, which is exact for powers of two only.
    assert np.frexp(DETECTOR.iou_threshold)[0] == 0.5
    assert DETECTOR.detections <= 3840


def weight_shapes(graph: Graph) -> Counter[tuple[int, ...]]:
    return Counter(graph.initializers[node.inputs[1]].dims for node in graph.nodes if node.op_type == "Conv")


@pytest.fixture(scope="module")
def full_size() -> Model:
    return model_from_seed("retinanet", 0)


def test_topology_is_torchvisions(full_size: Model, shared_fixtures: Any) -> None:
    """The same convolutions, as often, as in torchvision's export."""
    import lzma

    from cmx4trt.graph.passes import drop_identities, lift_constants
    from cmx4trt.ir.onnx_file import decode_model

    content = lzma.decompress((shared_fixtures / "retinanet_torchvision.onnx.xz").read_bytes())
    graph = decode_model(content).graph
    lift_constants(graph)
    drop_identities(graph)
    assert weight_shapes(full_size.graph) == weight_shapes(graph)

    def settings(graph: Graph) -> Counter[tuple[Any, ...]]:
        convolutions = [node for node in graph.nodes if node.op_type == "Conv"]
        return Counter(
            (n.attributes.get("group", 1), *n.ints("strides", [1, 1]), *n.ints("pads", [0] * 4)) for n in convolutions
        )

    assert settings(full_size.graph) == settings(graph)


def test_the_same_seed_gives_the_same_bytes(toy_detector: Any) -> None:
    first, second, other = (
        hashlib.sha256(toy_detector.message(toy_detector.model(seed))).digest() for seed in (1, 1, 2)
    )
    assert first == second != other


def test_weights_have_the_variance_of_he(full_size: Model) -> None:
    graph = full_size.graph
    body = [node for node in graph.nodes if node.op_type == "Conv"][1:30]
    for node in body:
        weight = graph.initializers[node.inputs[1]].numpy()
        gain = weight.std() * (weight[0].size / 2) ** 0.5
        assert 0.45 < gain < 1.05, node.label()
        assert np.isfinite(weight).all()


def test_valid_for_onnx(toy_detector: Any) -> None:
    proto = onnx.load_model_from_string(toy_detector.message(toy_detector.model()))
    onnx.checker.check_model(proto, full_check=True)


def test_a_black_image_may_have_no_detections(toy_detector: Any) -> None:
    from cmx4trt.networks.retinanet import random_weights

    topology = replace(toy_detector.topology, detector=replace(toy_detector.detector, score_threshold=0.999))
    model = random_weights.model_from_seed(1, topology)
    results = OnnxRuntimeSession.from_graph(encode_model(model)).run({"images": np.zeros((1, 3, 128, 128), np.float32)})
    assert {name: value.shape for name, value in results.items()} == {"boxes": (0, 4), "scores": (0,), "labels": (0,)}


def test_anchors_of_the_first_level() -> None:
    """Corners that torchvision's AnchorGenerator gives for sides 32, 40, 50 and ratios 1/2, 1, 2."""
    table = anchor_table(0, 100, 800)
    assert table.shape == (90_000, 4)
    wanted = [[-23, -11, 23, 11], [-28, -14, 28, 14], [-35, -18, 35, 18], [-16, -16, 16, 16], [-20, -20, 20, 20]]
    np.testing.assert_array_equal(table[:5], wanted)
    np.testing.assert_array_equal(table[9 * 101 + 3], np.add(wanted[3], [8, 8, 8, 8]))


@pytest.mark.slow
def test_a_plausible_number_of_detections(full_size: Model) -> None:
    from cmx4trt.images.seeded import seeded_images

    session = OnnxRuntimeSession.from_graph(encode_model(full_size))
    results = session.run({"images": seeded_images((3, 800, 800), 1)})
    count = len(results["scores"])
    assert 100 <= count <= 1000
    assert len(set(results["labels"].tolist())) > 50
    assert 0.05 < results["scores"].min() <= results["scores"].max() < 0.9
    sides = results["boxes"][:, 2:] - results["boxes"][:, :2]
    assert 20 < np.median(sides) < 200
