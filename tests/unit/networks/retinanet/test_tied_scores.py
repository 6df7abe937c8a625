"""Weights whose scores are all alike: their detections are chance, and post-processing is judged on made-up heads alone."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmx4trt.ir.model import Model, Node, Tensor
from cmx4trt.ir.onnx_file import EncodedGraph, decode_model, encode_model, with_output
from cmx4trt.networks import network_of
from cmx4trt.networks.retinanet.comparison import verify_detector
from cmx4trt.networks.retinanet.detections import candidates_from_heads
from cmx4trt.networks.retinanet.heads import find_heads
from cmx4trt.networks.retinanet.made_heads import made_heads
from cmx4trt.networks.retinanet.matching import are_tied


def saturated(toy_detector: Any, bias: float, gain: float = 1.0) -> Model:
    """The toy with other class logits."""
    model: Model = toy_detector.model()
    constants = model.graph.initializers
    _, weight, offset = find_heads(model.graph, toy_detector.spec).classes[0].inputs
    constants[offset] = Tensor.from_numpy(offset, np.full(27, bias, np.float32))
    constants[weight] = Tensor.from_numpy(weight, constants[weight].numpy() * np.float32(gain))
    return model


def verified(toy_detector: Any, model: Model, precision: str = "fp32", edit: Any = None, **options: Any) -> Any:
    content = toy_detector.message(model)
    graph = toy_detector.prepared(decode_model(content), precision=precision, **options)
    if edit is not None:
        edited = graph.model.copy()
        edit(edited)
        graph = replace(graph, model=edited, encoded=encode_model(edited))
    asked = toy_detector.request(precision=precision, **options).graph_options()
    return verify_detector(graph, lambda name: EncodedGraph(with_output(content, name), {}), asked)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize(("bias", "gain"), [(14.0, 1.0), (30.0, 1.0), (0.0, 100.0)])
def test_right_graphs_pass(toy_detector: Any, precision: str, bias: float, gain: float) -> None:
    found = verified(toy_detector, saturated(toy_detector, bias, gain), precision)
    assert found.tied
    assert found.passed, found.sentence()
    assert not found.reading.agrees
    assert found.made_up.pairs > 0
    assert "scores are all alike" in found.sentence()
    assert found.to_dict()["scores_all_alike"] is True


def test_of_several_images_and_as_raw_heads(toy_detector: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "data")
    model = saturated(toy_detector, 30.0)
    import_module("file_forms").detector_of_batch(model, 2)
    assert verified(toy_detector, model, postprocess="none").passed


def test_scores_that_are_spread_decide_themselves(toy_detector: Any) -> None:
    assert not verified(toy_detector, toy_detector.model()).tied


def swap_coordinates(graph: Any, value: str) -> None:
    """Let the boxes [..., 4] called ``value`` be y1, x1, y2, x2."""
    graph.initializers["swapped_order"] = Tensor.from_numpy("swapped_order", np.array([1, 0, 3, 2], np.int64))
    producer = graph.producers()[value]
    producer.outputs = [f"{value}_right" if name == value else name for name in producer.outputs]
    graph.nodes.append(Node("Gather", [f"{value}_right", "swapped_order"], [value], {"axis": -1}, "swap"))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_graph_that_makes_other_detections_fails(toy_detector: Any, precision: str) -> None:
    def edit(model: Model) -> None:
        swap_coordinates(model.graph, "boxes")

    found = verified(toy_detector, saturated(toy_detector, 30.0), precision, edit)
    assert not found.passed
    assert "of the same head tensors the graph makes other detections" in found.sentence()


def test_a_file_that_makes_other_detections_fails(toy_detector: Any) -> None:
    model = saturated(toy_detector, 30.0)
    swap_coordinates(model.graph, "boxes")
    found = verified(toy_detector, model)
    assert not found.passed
    assert "of the same head tensors the graph makes other detections" in found.sentence()


@pytest.mark.parametrize(("alike", "expected"), [(True, True), (False, False)])
def test_detections_of_int8_follow_unless_they_are_chance(toy_detector: Any, alike: bool, expected: bool) -> None:
    """Each detection is that of another place."""
    graph = toy_detector.prepared(toy_detector.model())
    heads = made_heads(graph.details)
    if alike:
        heads |= {name: np.full_like(array, 30.0) for name, array in heads.items() if name.startswith("cls")}
    best = candidates_from_heads(heads, 0, graph.details)[-50:]
    outputs = {"boxes": best[None, :, :4], "scores": best[None, :, 4], "labels": best[None, :, 5].astype(np.int32)}
    outputs |= {"num": np.array([50]), "inexact": np.array([0]), "candidates": best[None]}
    network = network_of("retinanet").with_spec(toy_detector.spec)
    results = network.results(graph, toy_detector.request().graph_options())
    assert results.follow is not None
    assert results.follow({**heads, **outputs}) is expected


def test_ties() -> None:
    rows = np.zeros((10, 6), np.float32)
    assert not are_tied([rows], 0.05)  # none is above the threshold
    rows[:, 4] = 1
    assert are_tied([rows], 0.05)
    rows[:, 4] = np.linspace(1, 0.5, 10)
    assert not are_tied([rows], 0.05)
