"""Placement rules on small ONNX text graphs: where they fire and where they must not."""

from __future__ import annotations

import pytest

from cmx4trt.graph.network import CanonicalGraph
from cmx4trt.ir.model import Model
from cmx4trt.quantize.placement import Placement, place, restricted, shared_scales
from cmx4trt.quantize.rules import RULES

SHAPES = {"w": (3, 3, 3, 3), "v": (3, 3, 3, 3), "b": (3,), "g": (4, 192), "gt": (192, 4), "bias": (1, 3, 1, 1)}
CONV = "<pads = [1, 1, 1, 1]>"


def edges(placement: Placement) -> set[tuple[str, str]]:
    """(rule, tensor) of every quantized input."""
    return {(edge.rule, edge.tensor) for edge in placement.edges}


@pytest.fixture
def placed(text_model):  # type: ignore[no-untyped-def]
    def run(body: str, outputs: str = "y", kept: tuple[str, ...] = ()) -> Placement:
        return place(text_model(body, outputs, SHAPES).graph, kept)

    return run


CASES = {
    "convolution": (f"y = Conv {CONV} (x, w, b)", {("layer-input", "x")}),
    "convolution with a computed weight": (f"u = Relu (w) y = Conv {CONV} (x, u)", set()),
    "inner matrix product": (
        "f = Flatten (x) m = Gemm <transB = 1> (f, g) y = Relu (m)",
        {("layer-input", "f")},
    ),
    "matrix product of the output": ("f = Flatten (x) y = Gemm <transB = 1> (f, g)", set()),
    "transposed activation": ("f = Flatten (x) m = Gemm <transA = 1> (f, g) y = Relu (m)", set()),
    "addition behind a convolution": (
        f"c = Conv {CONV} (x, w) a = Add (c, x) y = Relu (a)",
        {("layer-input", "x"), ("residual-add", "x")},
    ),
    "addition of two convolutions": (
        f"s = Conv {CONV} (x, w) c = Conv {CONV} (x, w) r = Relu (c) d = Conv {CONV} (r, v) y = Add (s, d)",
        {("layer-input", "x"), ("layer-input", "r"), ("residual-add", "s")},
    ),
    "addition of two equal convolutions": (
        f"s = Conv {CONV} (x, w) t = Conv {CONV} (x, v) y = Add (s, t)",
        {("layer-input", "x"), ("residual-add", "t")},
    ),
    "addition of a constant": (f"c = Conv {CONV} (x, w) y = Add (c, bias)", {("layer-input", "x")}),
    "addition of a value to itself": (f"c = Conv {CONV} (x, w) y = Add (c, c)", {("layer-input", "x")}),
    "addition without a convolution": ("r = Relu (x) y = Add (r, x)", set()),
    "addition behind a convolution that others read": (
        f"c = Conv {CONV} (x, w) a = Add (c, x) r = Relu (c) y = Add (a, r)",
        {("layer-input", "x")},
    ),
    "average pool": ("y = GlobalAveragePool (x)", {("average-pool", "x")}),
    "max pool before a convolution": (
        f"r = Relu (x) p = MaxPool <kernel_shape = [2, 2]> (r) y = Conv {CONV} (p, w)",
        {("layer-input", "p"), ("pass-through", "r")},
    ),
    "max pool before something else": ("p = MaxPool <kernel_shape = [2, 2]> (x) y = Relu (p)", set()),
    "nearest resize before an addition": (
        f'r = Relu (x) up = Resize <mode = "nearest"> (r, , sizes) c = Conv {CONV} (x, w) y = Add (c, up)',
        {("pass-through", "r"), ("residual-add", "up"), ("layer-input", "x")},
    ),
    "linear resize before an addition": (
        f'r = Relu (x) up = Resize <mode = "linear"> (r, , sizes) c = Conv {CONV} (x, w) y = Add (c, up)',
        {("residual-add", "up"), ("layer-input", "x")},
    ),
    "concat before a convolution": (
        f"r = Relu (x) s = Sigmoid (x) c = Concat <axis = 2> (r, s) y = Conv {CONV} (c, w)",
        {("layer-input", "c"), ("concat", "r"), ("concat", "s")},
    ),
    "concat before something else": ("r = Relu (x) c = Concat <axis = 2> (r, x) y = Sigmoid (c)", set()),
    "concat with a constant": (
        f"r = Relu (x) c = Concat <axis = 0> (r, bias) y = Conv {CONV} (c, w)",
        {("layer-input", "c")},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_rules(placed, name: str) -> None:  # type: ignore[no-untyped-def]
    body, expected = CASES[name]
    assert edges(placed(body)) == expected


def test_every_rule_has_a_case_where_it_fires_and_gives_its_grounds() -> None:
    fired = {rule for _, expected in CASES.values() for rule, _ in expected}
    assert fired == {rule.name for rule in RULES}
    assert all(rule.reason and rule.source for rule in RULES)


def test_outputs_are_never_quantized(placed) -> None:  # type: ignore[no-untyped-def]
    placement = placed(f"c = Conv {CONV} (x, w) y = Conv {CONV} (c, v)")
    assert {edge.tensor for edge in placement.edges} == {"x", "c"}
    assert "y" not in placement.activations


def test_weights_have_one_scale_for_each_output_channel(placed) -> None:  # type: ignore[no-untyped-def]
    convolution = placed(f"y = Conv {CONV} (x, w)").weights[0]
    assert (convolution.tensor, convolution.axis) == ("w", 0)
    plain = placed("f = Flatten (x) m = Gemm (f, gt) y = Relu (m)").weights[0]
    assert (plain.tensor, plain.axis) == ("gt", 1)
    transposed = placed("f = Flatten (x) m = Gemm <transB = 1> (f, g) y = Relu (m)").weights[0]
    assert (transposed.tensor, transposed.axis) == ("g", 0)


def test_kept_layers_lose_input_weight_and_fusion(placed) -> None:  # type: ignore[no-untyped-def]
    body = f"s = Relu (x) c = Conv {CONV} (s, w) d = Conv {CONV} (c, v) a = Add (d, s) y = Relu (a)"
    placement = placed(body, kept=("d",))
    assert edges(placement) == {("layer-input", "s")}
    assert placement.kept == ("d",)
    assert placement.layers == ("c", "d")


def test_groups_that_touch_are_one(placed) -> None:  # type: ignore[no-untyped-def]
    body = (
        f"r = Relu (x) p = MaxPool <kernel_shape = [1, 1]> (r) s = Sigmoid (x) c = Concat <axis = 2> (p, s)"
        f" y = Conv {CONV} (c, w)"
    )
    placement = placed(body)
    assert placement.groups == (frozenset({"r", "p", "s", "c"}),)
    assert shared_scales(placement, {"r": 1.0, "s": 3.0, "x": 5.0}) == {
        "r": 3.0,
        "p": 3.0,
        "s": 3.0,
        "c": 3.0,
        "x": 5.0,
    }


def test_a_layer_without_range_stays_in_floating_point(residual: Model) -> None:
    full = place(residual.graph)
    known = [name for name in full.activations if name != "r2"]
    placement = restricted(full, known)
    assert "r2" not in placement.activations
    assert set(placement.kept) == {"c3", "y"}
    assert {weight.tensor for weight in placement.weights} == {"w1", "w2", "w4", "w5"}


def test_resnet50(resnet50: CanonicalGraph) -> None:
    placement = place(resnet50.model.graph)
    assert placement.fired() == {"layer-input": 53, "residual-add": 16, "average-pool": 1, "pass-through": 1}
    assert placement.kept == (placement.layers[-1],)
    shortcuts = {edge.tensor for edge in placement.edges if edge.rule == "residual-add"}
    assert {f"res{stage}a_branch1" for stage in (2, 3, 4, 5)} <= shortcuts
    assert not any("branch2c" in name for name in placement.activations)


def test_detector(toy_detector) -> None:  # type: ignore[no-untyped-def]
    network = toy_detector.network(toy_detector.model())
    graph = network.model.graph
    placement = place(graph)
    heads = {info.name for info in graph.outputs}
    assert not heads & set(placement.activations)
    assert placement.kept == ()
    resizes = [node for node in graph.nodes if node.op_type == "Resize"]
    assert len(resizes) == 2
    for node in resizes:
        assert {node.inputs[0], node.outputs[0]} <= set(placement.activations)
        assert any({node.inputs[0], node.outputs[0]} <= group for group in placement.groups)
