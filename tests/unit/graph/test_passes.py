from __future__ import annotations

import pytest

from cmx4trt.graph.passes import absorb_padding, drop_float_casts, drop_identities, lift_constants


def test_lift_constants(model_from_text) -> None:
    graph = model_from_text(
        "g (float[2] x) => (float[2] y) { c = Constant<value = float[2] {1.0, 2.0}>()\n y = Add(x, c) }"
    ).graph
    assert lift_constants(graph) == 1
    assert graph.initializers["c"].numpy().tolist() == [1.0, 2.0]
    assert [node.op_type for node in graph.nodes] == ["Add"]


def test_lift_constants_leaves_other_nodes(model_from_text) -> None:
    graph = model_from_text("g (float[2] x) => (float[2] y) { y = Relu(x) }").graph
    assert lift_constants(graph) == 0
    assert len(graph.nodes) == 1


def test_drop_identities_lets_readers_read_the_source(model_from_text) -> None:
    graph = model_from_text("g (float[2] x) => (float[2] y) { a = Identity(x)\n b = Dropout(a)\n y = Relu(b) }").graph
    assert drop_identities(graph) == 2
    assert graph.nodes[0].inputs == ["x"]


@pytest.mark.parametrize("body", ["y = Identity(x)", "a, mask = Dropout(x)\n y = Where(mask, a, x)"])
def test_drop_identities_keeps_outputs_and_read_masks(model_from_text, body: str) -> None:
    graph = model_from_text(f"g (float[2] x) => (float[2] y) {{ {body} }}").graph
    before = len(graph.nodes)
    assert drop_identities(graph) == 0
    assert len(graph.nodes) == before


def test_drop_float_casts(model_from_text) -> None:
    graph = model_from_text(
        "g (float[2] x) => (float[2] y) { a = Cast<to = 10>(x)\n b = Relu(a)\n y = Cast<to = 1>(b) }"
    ).graph
    assert drop_float_casts(graph) == 1
    assert [node.op_type for node in graph.nodes] == ["Relu", "Cast"]
    graph = model_from_text("g (float[2] x) => (int64[2] y) { a = Cast<to = 7>(x)\n y = Neg(a) }").graph
    assert drop_float_casts(graph) == 0


PADDED = """<ir_version: 7, opset_import: ["" : 11]>
g (float[N, 3, 8, 8] x) => (float[N, 4, 4, 4] y)
<int64[8] pads = {%s}, float value = {%s}, float[4, 3, 3, 3] w> {
    p = Pad<mode = "%s">(x, pads, value)
    y = Conv<strides = [2, 2], pads = [0, 0, 1, 0]>(p, w)
}"""


def test_absorb_padding_adds_the_amounts(model_from_text) -> None:
    graph = model_from_text(PADDED % ("0,0,1,2,0,0,3,4", "0.0", "constant")).graph
    assert absorb_padding(graph) == 1
    assert graph.nodes[0].op_type == "Conv"
    assert graph.nodes[0].inputs[0] == "x"
    assert graph.nodes[0].attributes["pads"] == [1, 2, 4, 4]


@pytest.mark.parametrize(
    ("pads", "value", "mode"),
    [
        ("0,1,1,1,0,0,1,1", "0.0", "constant"),
        ("0,0,1,1,0,0,1,1", "1.0", "constant"),
        ("0,0,1,1,0,0,1,1", "0.0", "reflect"),
        ("0,0,-1,1,0,0,1,1", "0.0", "constant"),
    ],
)
def test_absorb_padding_leaves_what_a_convolution_cannot_do(model_from_text, pads: str, value: str, mode: str) -> None:
    graph = model_from_text(PADDED % (pads, value, mode)).graph
    assert absorb_padding(graph) == 0
    assert [node.op_type for node in graph.nodes] == ["Pad", "Conv"]


def test_absorb_padding_leaves_padding_with_two_readers(model_from_text) -> None:
    text = PADDED % ("0,0,1,1,0,0,1,1", "0.0", "constant")
    graph = model_from_text(
        text.replace("=> (float[N, 4, 4, 4] y)", "=> (float[N, 4, 4, 4] y, float[N, 3, 10, 10] z)").replace(
            "y = Conv", "z = Relu(p)\n y = Conv"
        )
    ).graph
    assert absorb_padding(graph) == 0
