"""Layers judged one by one: right graphs pass in every precision, each planted mistake is found and its layer named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cmx4trt.graph.judge import LayerJudgement, judge_layers
from cmx4trt.graph.judge.correspondence import computed_name
from cmx4trt.graph.precision import DTYPES, cast_floats
from cmx4trt.ir.model import Graph, Model, Node, Tensor
from cmx4trt.quantize.placement import place
from cmx4trt.quantize.qdq import insert_qdq
from tests.unit.conftest import RESIDUAL, RESIDUAL_SHAPES

PRECISIONS = ["fp32", "fp16", "bf16"]
AMPLIFIED = {"w1": 1e-3, "w6": 300.0}
"""Scales of constants: what matters is lost among the roundings of the whole, and must not be in its layer."""


def original(text_model: Any, seed: int = 0) -> Model:
    return text_model(RESIDUAL, shapes=RESIDUAL_SHAPES, seed=seed)


def prepared(model: Model, precision: str) -> Model:
    copy = model.copy()
    cast_floats(copy, DTYPES[precision])
    return copy


def images(scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((1, 3, 8, 8), dtype=np.float32) * np.float32(scale)


def judge(graph: Model, model: Model, scale: float = 1.0) -> LayerJudgement:
    return judge_layers(graph, model.copy(), {"y": "y"}, images(scale))


def node(graph: Graph, output: str) -> Node:
    return next(n for n in graph.nodes if output in n.outputs)


def without(graph: Graph, output: str) -> None:
    graph.rename_reads(output, node(graph, output).inputs[0])
    graph.prune()


def scaled(graph: Graph, constant: str, factor: float) -> None:
    name = next(name for name in graph.initializers if name.split("_")[0] == constant)
    tensor = graph.initializers[name]
    if tensor.dtype.name == "BFLOAT16":
        from cmx4trt.graph.precision import cast_tensor, floats_from_tensor

        wide = Tensor.from_numpy(name, floats_from_tensor(tensor) * np.float32(factor))
        graph.initializers[name] = cast_tensor(wide, tensor.dtype, name)
        return
    graph.initializers[name] = Tensor.from_numpy(
        name, (tensor.numpy() * np.float32(factor)).astype(tensor.numpy().dtype)
    )


def permuted(graph: Graph, constant: str) -> None:
    name = next(name for name in graph.initializers if name.split("_")[0] == constant)
    tensor = graph.initializers[name]
    order = np.arange(tensor.dims[1])
    order[:2] = order[1::-1]
    graph.initializers[name] = Tensor.from_numpy(name, np.ascontiguousarray(tensor.numpy()[:, order]), tensor.dtype)


def other_pads(graph: Graph) -> None:
    node(graph, "c2").attributes["pads"] = [0, 0, 2, 2]


def other_pool(graph: Graph) -> None:
    node(graph, "p1").op_type = "AveragePool"


def other_function(graph: Graph) -> None:
    node(graph, "r2").op_type = "Softplus"


def other_stride(graph: Graph) -> None:
    """As ResNet v1 differs from v1.5: what follows has the shape that it had."""
    node(graph, "c1").attributes["strides"] = [2, 2]
    node(graph, "p1").attributes.update(strides=[1, 1], kernel_shape=[1, 1])


def swapped_branches(graph: Graph) -> None:
    node(graph, "c5").inputs[0], node(graph, "a2").inputs[1] = "a1", "a1"


def no_bias(graph: Graph) -> None:
    node(graph, "c3").inputs.pop()


MISTAKES: dict[str, tuple[Callable[[Graph], None], str]] = {
    "missing ReLU": (lambda graph: without(graph, "r2"), "c3"),
    "missing addition": (lambda graph: without(graph, "a2"), "r5"),
    "padding": (other_pads, "c2"),
    "pooling": (other_pool, "p1"),
    "stride": (other_stride, "c1"),
    "another function": (other_function, "r2"),
    "scale x2": (lambda graph: scaled(graph, "w3", 2.0), "c3"),
    "bias gone": (lambda graph: scaled(graph, "b5", 0.0), "c5"),
    "no bias": (no_bias, "c3"),
    "permuted channels": (lambda graph: permuted(graph, "w2"), "c2"),
    "swapped branches": (swapped_branches, "c5"),
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("amplified", [False, True])
def test_right_graphs_pass(text_model: Any, precision: str, amplified: bool) -> None:
    for seed in range(5):
        model = original(text_model, seed)
        for name, factor in AMPLIFIED.items() if amplified else ():
            scaled(model.graph, name, factor)
        found = judge(prepared(model, precision), model, 50.0 if amplified else 1.0)
        assert found.passed, found.sentence()
        assert (found.judged, found.layers) == (14, 14)
        assert "\n" not in found.sentence()


WORDS = {
    "no bias": "Conv 'c3' has no bias, the original's has one",
    "stride": "gives another shape than the original",
    "missing ReLU": "Conv 'c3' is computed with no activation, the original's with Relu",
    "pooling": "is computed with no activation, the original's with MaxPool",
    "another function": "is computed with Softplus, the original's with Relu",
    "swapped branches": "is computed with no activation, the original's with Relu",
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_found(text_model: Any, precision: str, mistake: str) -> None:
    plant, layer = MISTAKES[mistake]
    model = original(text_model)
    graph = prepared(model, precision)
    plant(graph.graph)
    found = judge(graph, model)
    assert not found.passed
    assert layer in found.first
    assert WORDS.get(mistake, "differs from the original by") in found.sentence()


def test_parts_are_judged_one_after_the_other(text_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmx4trt.graph.judge.layers.PART_ELEMENTS", 600)
    model = original(text_model)
    found = judge(prepared(model, "fp16"), model)
    assert found.passed, found.sentence()
    assert found.judged == 14
    assert found.results["y"].shape == (1, 5)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_missing_relu_is_found_where_it_has_no_effect(text_model: Any, precision: str) -> None:
    model = original(text_model)
    bias = np.full(RESIDUAL_SHAPES["b1"], 1000.0, np.float32)
    model.graph.initializers["b1"] = Tensor.from_numpy("b1", bias)
    graph = prepared(model, precision)
    without(graph.graph, "r1")
    found = judge(graph, model)
    assert not found.passed
    assert "the original's with MaxPool and Relu" in found.sentence()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_other_weights_are_found_where_they_have_no_effect(text_model: Any, precision: str) -> None:
    """Channels that are zero on an image may be permuted; the layer is another all the same."""
    model = original(text_model)
    for name, value in (("b1", -1e3), ("w1", 0.0)):
        tensor = model.graph.initializers[name]
        model.graph.initializers[name] = Tensor.from_numpy(name, np.full(tensor.dims, value, np.float32))
    graph = prepared(model, precision)
    permuted(graph.graph, "w2")
    found = judge(graph, model)
    assert not found.passed
    assert "Conv 'c2' multiplies by other weights than the original" in found.sentence()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_other_int8_weights_are_found_where_they_have_no_effect(text_model: Any, precision: str) -> None:
    """What reads them stands behind pairs that the graph and the quantized network have in the same places."""
    model = original(text_model)
    for name, value in (("b1", -1e3), ("w1", 0.0)):
        tensor = model.graph.initializers[name]
        model.graph.initializers[name] = Tensor.from_numpy(name, np.full(tensor.dims, value, np.float32))
    placement = place(model.graph)
    insert_qdq(model, placement, dict.fromkeys(placement.activations, 0.05))
    graph = prepared(model, precision)
    right = judge(graph, model)
    assert right.passed, right.sentence()
    permuted(graph.graph, "w2")
    wrong = judge(graph, model)
    assert not wrong.passed
    assert "Conv 'c2' multiplies by other weights than the original" in wrong.sentence()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_result_of_unknown_operators_is_not_taken_for_granted(text_model: Any, precision: str) -> None:
    """A frozen batch: on one image it is right."""
    model = original(text_model)
    graph = prepared(model, precision)
    onnx = graph.graph
    name = computed_name(onnx, "y")
    place = next(i for i, n in enumerate(onnx.nodes) if name in n.outputs)
    onnx.nodes[place].outputs[0] = "all_images"
    for constant, value in (("start", 0), ("end", 1)):
        onnx.initializers[constant] = Tensor.from_numpy(constant, np.array([value], np.int64))
    onnx.nodes[place + 1 : place + 1] = [
        Node("Slice", ["all_images", "start", "end", "start"], ["first"], {}, "first"),
        Node("Shape", ["all_images"], ["size"], {}, "size"),
        Node("Expand", ["first", "size"], [name], {}, "frozen"),
    ]
    found = judge(graph, model)
    assert not found.passed
    assert "Expand 'frozen' cannot be compared with the original's" in found.sentence()
