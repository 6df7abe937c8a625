"""float16 is quantized to nearest even, whatever ONNX Runtime's own kernel does with it."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.checker
import pytest
from onnx import TensorProto, helper

from cmx4trt.ir.float32_quantize import quantize_in_float32
from cmx4trt.ir.model import Model
from cmx4trt.ir.onnx_file import EncodedGraph, decode_model, encode_model, with_output
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

SCALE = np.float16(0.0437)


def quantizer(dtype: int = TensorProto.FLOAT16) -> Model:
    """x float32 -> float16 -> int8 by SCALE -> int32."""
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], to=dtype),
        helper.make_node("QuantizeLinear", ["half", "scale", "zero"], ["q"], name="quantize"),
        helper.make_node("Cast", ["q"], ["y"], to=TensorProto.INT32),
    ]
    constants = [
        helper.make_tensor("scale", dtype, [], [float(SCALE)]),
        helper.make_tensor("zero", TensorProto.INT8, [], [0]),
        helper.make_tensor("half_float32", TensorProto.FLOAT, [], [1.0]),  # a name that a Cast could take
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.INT32, ["N"])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return decode_model(proto.SerializeToString())


def test_float16_is_rounded_to_nearest_even() -> None:
    """ONNX Runtime up to 1.29 truncates: 46 % of these integers are wrong there."""
    values = np.random.default_rng(0).normal(0, 3, 4096).astype(np.float16)
    values[:3] = np.float16(0.5) * SCALE, np.float16(1.5) * SCALE, np.float16(-2.5) * SCALE
    session = OnnxRuntimeSession.from_graph(encode_model(quantizer()))
    found = session.run({"x": values.astype(np.float32)})["y"]
    expected = np.clip(np.rint(values.astype(np.float32) / np.float32(SCALE)), -128, 127)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_only_the_inputs_of_the_node_change(dtype: int) -> None:
    proto = onnx.load_model_from_string(quantize_in_float32(encode_model(quantizer(dtype)).message))
    onnx.checker.check_model(
        proto, full_check=dtype == TensorProto.FLOAT16
    )  # bfloat16 is none of QuantizeLinear's types
    kinds = [node.op_type for node in proto.graph.node]
    assert kinds == ["Cast", "Cast", "Cast", "QuantizeLinear", "Cast"]
    assert list(proto.graph.node[3].output) == ["q"]
    assert proto.graph.node[3].input[2] == "zero"
    names = [name for node in proto.graph.node for name in node.output] + [c.name for c in proto.graph.initializer]
    assert len(names) == len(set(names))


def test_an_output_added_to_the_bytes_stays() -> None:
    message = with_output(encode_model(quantizer()).message, "q")
    proto = onnx.load_model_from_string(quantize_in_float32(message))
    assert [info.name for info in proto.graph.output] == ["y", "q"]


def test_other_graphs_are_the_same_bytes() -> None:
    exact = encode_model(quantizer(TensorProto.FLOAT)).message
    assert onnx.load_model_from_string(quantize_in_float32(exact)) == onnx.load_model_from_string(exact)
    assert quantize_in_float32(b"\x08\x09") == b"\x08\x09"


def test_the_engines_graph_is_not_touched() -> None:
    graph = encode_model(quantizer())
    before = bytes(graph.message)
    OnnxRuntimeSession.from_graph(EncodedGraph(graph.message, graph.constants))
    assert graph.message == before
