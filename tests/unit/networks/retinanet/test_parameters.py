"""Thresholds and counts of a file's post-processing are those of the engine; what cannot be read is one sentence."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmx4trt.base.verdicts import PASSED
from cmx4trt.errors import ModelError
from cmx4trt.ir.model import Graph, Model, Node, Tensor
from cmx4trt.ir.onnx_file import EncodedGraph, decode_model, with_output
from cmx4trt.networks import network_of
from cmx4trt.networks.retinanet import random_weights
from cmx4trt.networks.retinanet.comparison import verify_detector
from cmx4trt.networks.retinanet.heads import find_heads
from cmx4trt.networks.retinanet.parameters import read_parameters
from cmx4trt.networks.retinanet.spec import DETECTOR

OTHERS = {"score_threshold": 0.02, "iou_threshold": 0.6, "candidates": 40, "detections": 30, "max_log_ratio": 3.0}


def file_with(toy_detector: Any, **values: Any) -> Model:
    """The toy with other post-processing; what imports it knows only the toy's own."""
    detector = replace(toy_detector.detector, **values)
    return random_weights.model_from_seed(1, replace(toy_detector.topology, detector=detector))


def compared(toy_detector: Any, model: Model) -> Any:
    content = toy_detector.message(model)
    made = toy_detector.prepared(decode_model(content))
    options = toy_detector.request().graph_options()
    return made, verify_detector(made, lambda name: EncodedGraph(with_output(content, name), {}), options)


def test_all_five_are_read_and_built(toy_detector: Any) -> None:
    made, found = compared(toy_detector, file_with(toy_detector, **OTHERS))
    assert found.verdict == PASSED, found.sentence()
    assert found.expected > 0
    assert {name: getattr(made.details.spec, name) for name in OTHERS} == OTHERS
    assert {info.name: info.dims for info in made.outputs}["boxes"] == ("N", 30, 4)
    assert made.outputs[-1].dims == ("N", made.details.candidates, 6)


@pytest.mark.parametrize("name", OTHERS)
def test_each_alone(toy_detector: Any, name: str) -> None:
    network = toy_detector.network(file_with(toy_detector, **{name: OTHERS[name]}))
    found, expected = (
        network.details.spec,
        replace(toy_detector.detector, body=toy_detector.body, **{name: OTHERS[name]}),
    )
    assert np.float32(found.max_log_ratio) == np.float32(expected.max_log_ratio)
    assert replace(found, max_log_ratio=expected.max_log_ratio) == expected


@pytest.mark.parametrize("classes", [2, 91])
def test_other_class_counts(toy_detector: Any, classes: int) -> None:
    made, found = compared(toy_detector, file_with(toy_detector, classes=classes))
    assert found.verdict == PASSED, found.sentence()
    assert made.details.spec.classes == classes


def test_an_engine_keeps_them(toy_detector: Any) -> None:
    notes = toy_detector.network(file_with(toy_detector, **OTHERS, classes=91)).notes
    assert json.loads(notes["postprocessing"]) == {**OTHERS, "classes": 91}
    found = network_of("retinanet").of_engine(notes).spec
    assert {name: getattr(found.details, name) for name in OTHERS} == OTHERS
    assert found.details.classes == 91
    assert network_of("retinanet").of_engine({}) is network_of("retinanet")


def test_torchvisions_file_has_mlperfs(shared_fixtures: Path) -> None:
    """Its suppression lies in the branch of an If, its sizes are computed in the graph."""
    model = decode_model(lzma.decompress((shared_fixtures / "retinanet_torchvision.onnx.xz").read_bytes()))
    from cmx4trt.graph.constants import share_equal_constants
    from cmx4trt.networks import spec_of
    from cmx4trt.networks.normal_form import normalize

    spec = spec_of("retinanet")
    normalize(model, spec, ("Conv", "BatchNormalization"), sink=False)
    share_equal_constants(model.graph)
    heads = find_heads(model.graph, spec)
    unknown = replace(DETECTOR, score_threshold=0.0, iou_threshold=0.0, candidates=0, detections=0, max_log_ratio=0.0)
    found = read_parameters(model, [node.outputs[0] for node in heads.boxes], spec, unknown)
    assert found.max_log_ratio == pytest.approx(DETECTOR.max_log_ratio, rel=1e-7)
    assert replace(found, max_log_ratio=DETECTOR.max_log_ratio) == DETECTOR


def node_of(graph: Graph, op_type: str) -> Node:
    return next(node for node in graph.nodes if node.op_type == op_type)


def two_thresholds(graph: Graph) -> None:
    node = node_of(graph, "Greater")
    graph.initializers["other"] = Tensor.from_numpy("other", np.array(0.5, np.float32))
    node.inputs[1] = "other"


def no_suppression(graph: Graph) -> None:
    """As some exports leave it to the caller."""
    node = node_of(graph, "NonMaxSuppression")
    node.op_type = "SomeOtherSuppression"


def too_many(graph: Graph) -> None:
    for node in [n for n in graph.nodes if n.op_type == "TopK"]:
        graph.initializers["many"] = Tensor.from_numpy("many", np.array([5000], np.int64))
        node.inputs[1] = "many"


UNREADABLE: dict[str, tuple[Callable[[Graph], None], str]] = {
    "thresholds": (two_thresholds, r"the score threshold .* cannot be read: found 0.012 and 0.5, expected one"),
    "suppression": (no_suppression, r"the IoU threshold .* cannot be read: found none that is constant"),
    "top-k": (too_many, r"keeps 5000 candidates, expected at most 3840"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_difference_is_named(toy_detector: Any, case: str) -> None:
    edit, sentence = UNREADABLE[case]
    model = toy_detector.model()
    edit(model.graph)
    with pytest.raises(ModelError, match=sentence) as caught:
        toy_detector.network(model)
    assert "\n" not in str(caught.value)
    assert toy_detector.network(file_with(toy_detector), postprocess="none").details.spec.classes == 3
