from __future__ import annotations

import pytest

from cmx4trt.ir.model import DType, Tensor, fresh_name


@pytest.fixture
def diamond(model_from_text):
    text = "g (float[2] x) => (float[2] y) { a = Relu(x)\n b = Abs(a)\n c = Neg(a)\n d = Neg(c)\n y = Add(b, c) }"
    return model_from_text(text).graph


def test_prune_drops_what_no_output_needs(diamond) -> None:
    diamond.initializers["w"] = Tensor("w", DType.FLOAT, (), b"\0\0\0\0")
    diamond.prune()
    assert [node.outputs[0] for node in diamond.nodes] == ["a", "b", "c", "y"]
    assert not diamond.initializers


def test_producers_and_consumers(diamond) -> None:
    assert diamond.producers()["b"].op_type == "Abs"
    assert [node.outputs[0] for node in diamond.consumers()["a"]] == ["b", "c"]


def test_claim_name_moves_the_bearer_of_the_name_aside(diamond) -> None:
    diamond.claim_name("x", "a")
    assert diamond.inputs[0].name == "a"
    assert diamond.nodes[0].inputs == ["a"]
    assert diamond.nodes[0].outputs == ["a_of_file"]
    assert diamond.nodes[1].inputs == ["a_of_file"]


def test_rename_value_follows_outputs_and_constants(diamond) -> None:
    diamond.initializers["w"] = Tensor("w", DType.FLOAT, (), b"\0\0\0\0")
    diamond.nodes[0].inputs.append("w")
    diamond.rename_value("w", "v")
    diamond.rename_value("y", "z")
    assert diamond.initializers["v"].name == "v"
    assert diamond.nodes[0].inputs == ["x", "v"]
    assert diamond.outputs[0].name == "z"


def test_copy_is_independent_but_shares_constants(diamond, model_from_text) -> None:
    model = model_from_text("g (float[2] x) => (float[2] y) <float[2] w = {1.0, 2.0}> { y = Add(x, w) }")
    copy = model.copy()
    copy.graph.nodes[0].inputs[0] = "other"
    copy.graph.inputs[0].name = "other"
    assert model.graph.nodes[0].inputs[0] == "x"
    assert model.graph.inputs[0].name == "x"
    assert copy.graph.initializers["w"] is model.graph.initializers["w"]


def test_fresh_name_counts_up() -> None:
    used = {"a", "a_2"}
    assert fresh_name("a", used) == "a_3"
    assert fresh_name("b", used) == "b"
    assert used == {"a", "a_2", "a_3", "b"}
