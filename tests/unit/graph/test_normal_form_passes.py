"""The passes that bring files to one form: firing, and not firing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cmx4trt.errors import ModelError
from cmx4trt.graph.constants import fold_constants
from cmx4trt.graph.fused import split_fused
from cmx4trt.graph.layout import sink_transposes
from cmx4trt.graph.own_quantization import take_apart
from cmx4trt.graph.padding import resolve_auto_pad
from cmx4trt.graph.passes import float_values, lift_constants
from cmx4trt.graph.widening import widen_floats
from cmx4trt.ir.model import DType, Graph, Model, Node, Tensor
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

Text = Callable[[str], Model]


def results(model: Model, image: np.ndarray) -> list[np.ndarray]:
    session = OnnxRuntimeSession.from_graph(encode_model(model.copy()))
    return list(session.run({session.inputs[0]: image}).values())


def operators(graph: Graph) -> list[str]:
    return [node.op_type for node in graph.nodes]


def test_transposes_cancel_around_elementwise_operators_and_a_mean(model_from_text: Text) -> None:
    model = model_from_text("""
        g (float[1, 4, 4, 2] x) => (float[1, 2] y) <float[2] b = {1.0, -2.0}> {
            t = Transpose <perm = [0, 3, 1, 2]> (x)
            p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (t)
            u = Transpose <perm = [0, 2, 3, 1]> (p)
            a = Add (u, b)
            r = Relu (a)
            y = ReduceMean <axes = [1, 2], keepdims = 0> (r)
        }""")
    image = np.random.default_rng(0).standard_normal((1, 4, 4, 2), dtype=np.float32)
    before = results(model, image)
    assert sink_transposes(model.graph) == 1
    assert operators(model.graph) == ["Transpose", "MaxPool", "Add", "Relu", "ReduceMean"]
    np.testing.assert_array_equal(results(model, image)[0], before[0])


def test_a_transpose_that_an_operator_needs_is_written_in_front_of_it(model_from_text: Text) -> None:
    model = model_from_text("""
        g (float[1, 4, 4, 2] x) => (float[1, 32] y) {
            r = Relu (x)  t = Transpose <perm = [0, 3, 1, 2]> (r)  s = Sigmoid (t)  y = Flatten (s)
        }""")
    image = np.random.default_rng(0).standard_normal((1, 4, 4, 2), dtype=np.float32)
    before = results(model, image)
    assert sink_transposes(model.graph) == 0
    np.testing.assert_array_equal(results(model, image)[0], before[0])


def test_no_transposes_nothing_to_do(model_from_text: Text) -> None:
    model = model_from_text("g (float[2] x) => (float[2] y) { y = Relu (x) }")
    nodes = list(model.graph.nodes)
    assert sink_transposes(model.graph) == 0
    assert model.graph.nodes == nodes


def test_fused_convolutions_are_split_and_others_left() -> None:
    fused = Node("FusedConv", ["x", "w", "b", "z"], ["y"], {"activation": "Relu", "group": 1}, "c", "com.microsoft")
    plain = Node("Conv", ["y", "w"], ["end"], {}, "d")
    graph = Graph("g", [fused, plain], {}, [], [])
    assert split_fused(graph) == 1
    assert operators(graph) == ["Conv", "Add", "Relu", "Conv"]
    conv, add, relu, _ = graph.nodes
    assert conv.inputs == ["x", "w", "b"]
    assert conv.attributes == {"group": 1}
    assert add.inputs == [conv.outputs[0], "z"]
    assert (relu.inputs, relu.outputs) == (add.outputs, ["y"])
    assert split_fused(graph) == 0


@pytest.mark.parametrize(
    ("kind", "pads"),
    [("SAME_UPPER", [0, 0, 1, 1]), ("SAME_LOWER", [1, 1, 0, 0]), ("VALID", [0, 0, 0, 0])],
)
def test_auto_pad_is_written_out(model_from_text: Text, kind: str, pads: list[int]) -> None:
    model = model_from_text(f"""
        g (float[1, 1, 8, 8] x) => (float[1, 1, n, n] y) {{
            y = MaxPool <kernel_shape = [3, 3], strides = [2, 2], auto_pad = "{kind}"> (x)
        }}""")
    image = np.random.default_rng(0).standard_normal((1, 1, 8, 8), dtype=np.float32)
    before = results(model, image)
    assert resolve_auto_pad(model.graph, (1, 1, 8, 8)) == 1
    assert model.graph.nodes[0].attributes["pads"] == pads
    np.testing.assert_array_equal(results(model, image)[0], before[0])
    assert resolve_auto_pad(model.graph, (1, 1, 8, 8)) == 0


def test_constants_of_plain_numbers_are_lifted(model_from_text: Text) -> None:
    graph = model_from_text("""
        g (float[2] x) => (float[2] y) {
            i = Constant <value_int = 3> ()  v = Constant <value_ints = [1, 2]> ()  f = Constant <value_float = 0.5> ()
            y = Mul (x, f)
        }""").graph
    assert lift_constants(graph) == 3
    assert {name: tensor.numpy().tolist() for name, tensor in graph.initializers.items()} == {
        "i": 3,
        "v": [1, 2],
        "f": 0.5,
    }


def test_computed_operands_become_constants_of_their_type(model_from_text: Text) -> None:
    model = model_from_text("""
        g (float[1, 4] x) => (float[2, 2] y) <float[1] one = {1.0}, int64[1] four = {4}, int64[2] two = {2, 2}> {
            b = Expand (one, four)  a = Add (x, b)  s = Add (two, four)  z = Sub (s, four)  y = Reshape (a, z)
        }""")
    assert fold_constants(model, {"Add", "Reshape"}) == 2
    assert operators(model.graph) == [
        "Add",
        "Add",
        "Reshape",
    ]  # the sum stays until it is pruned: only its difference was read
    assert model.graph.initializers["b"].dtype is DType.FLOAT
    assert model.graph.initializers["z"].numpy().tolist() == [2, 2]
    assert fold_constants(model, {"Add", "Reshape"}) == 0


def test_only_floats_are_widened(model_from_text: Text) -> None:
    graph = model_from_text("""
        g (float16[2] x) => (float16[2] y) <int64[2] i = {1, 2}> {
            c = Cast <to = 1> (x)  d = Cast <to = 10> (i)  e = Cast <to = 10> (c)  f = Add (e, d)  y = Add (f, h)
        }""").graph
    graph.initializers["h"] = Tensor.from_numpy("h", np.float16([1.5, 2.5]))
    assert float_values(graph) == {"x", "h", "c", "d", "e", "f", "y"}
    assert widen_floats(graph) == "fp16"
    assert operators(graph) == ["Cast", "Add", "Add"]
    assert graph.nodes[0].attributes["to"] == DType.FLOAT
    assert {t.dtype for t in graph.initializers.values()} == {DType.FLOAT, DType.INT64}
    assert graph.inputs[0].dtype is graph.outputs[0].dtype is DType.FLOAT
    assert widen_floats(graph) == "fp32"


def test_a_float_model_has_no_scales_of_its_own(model_from_text: Text) -> None:
    assert take_apart(model_from_text("g (float[2] x) => (float[2] y) { y = Relu (x) }").graph) is None


@pytest.mark.parametrize(
    ("scale", "zero", "sentence"),
    [
        (np.float32([0.1, 0.2]), np.int8([0, 0]), "gives an activation 2 scales, expected one"),
        (np.float32(0), np.int8(0), "a scale that is not a positive number"),
        (np.float32(0.1), np.int16(0), "has int16 or blocks of scales, expected int8 or uint8"),
    ],
)
def test_scales_that_int8_cannot_have_are_refused(
    model_from_text: Text, scale: np.ndarray, zero: np.ndarray, sentence: str
) -> None:
    graph = model_from_text("g (float[2] x) => (float[2] y) { y = Relu (x) }").graph
    for name, value in (("s", np.asarray(scale)), ("z", np.asarray(zero))):
        graph.initializers[name] = Tensor.from_numpy(name, value)
    graph.nodes[:0] = [Node("QuantizeLinear", ["x", "s", "z"], ["q"]), Node("DequantizeLinear", ["q", "s", "z"], ["d"])]
    graph.nodes[2].inputs[0] = "d"
    with pytest.raises(ModelError, match=sentence):
        take_apart(graph)
