"""Graphs in their own arithmetic: on values that ONNX Runtime's own kernels, or its optimiser, would not round."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from cmx4trt.graph.arithmetic import ROUNDINGS, faithful, rounder_of
from cmx4trt.graph.execution import open_faithful
from cmx4trt.graph.precision import cast_floats
from cmx4trt.ir.model import DType, Node
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

TEXT = """<ir_version: 9, opset_import: ["" : 19]>
g (float[N, 2] x) => (float[N, 2] y, float[N, 2] z)
<float[2, 2] w = {1.0, 2.0, 3.0, 4.0}, float[2] b = {0.5, 0.25}, float[2] c = {-0.3, 3.3}> {
    a = MatMul(x, w)
    s = Add(a, b)
    y = Mul(s, c)
    z = Relu(y)
}"""
NUMPY = {DType.FLOAT16: np.float16, DType.BFLOAT16: ml_dtypes.bfloat16}


def computed(x: np.ndarray, dtype: DType) -> tuple[np.ndarray, np.ndarray]:
    """The same operators, each of which rounds."""

    def rounded(array: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return array.astype(NUMPY[dtype]).astype(np.float32)

    product = rounded(rounded(x) @ np.array([[1, 2], [3, 4]], np.float32))
    total = rounded(product + np.array([0.5, 0.25], np.float32))
    y = rounded(total * rounded(np.array([-0.3, 3.3], np.float32)))
    return y, np.maximum(y, 0)


@pytest.mark.parametrize("dtype", NUMPY)
def test_every_operator_rounds(model_from_text, dtype: DType) -> None:
    """Neighbours too: ONNX Runtime computes float16 operators side by side in float32, and must not remove Casts."""
    model = model_from_text(TEXT)
    cast_floats(model, dtype)
    x = np.random.default_rng(0).standard_normal((500, 2), dtype=np.float32)
    found = open_faithful(model).run({"x": x})
    for name, expected in zip("yz", computed(x, dtype), strict=True):
        assert np.array_equal(found[name], expected)


def test_float16_overflows_to_infinity(model_from_text) -> None:
    model = model_from_text(TEXT)
    cast_floats(model, DType.FLOAT16)
    found = open_faithful(model).run({"x": np.full((1, 2), 2e4, np.float32)})
    assert np.isinf(found["y"]).all()


def test_reduced_inputs_and_outputs_keep_their_types(model_from_text) -> None:
    model = model_from_text(TEXT)
    model.graph.inputs[0].dtype = model.graph.outputs[1].dtype = DType.FLOAT16
    cast_floats(model, DType.FLOAT16)
    x = np.random.default_rng(0).standard_normal((5, 2)).astype(np.float16)
    found = open_faithful(model).run({"x": x})
    assert found["z"].dtype == np.float16
    assert np.array_equal(found["z"].astype(np.float32), computed(x.astype(np.float32), DType.FLOAT16)[1])
    assert model.graph.inputs[0].dtype is DType.FLOAT16, "the graph itself is not touched"


def test_integer_products_are_not_rounded_before_they_are_added_up(model_from_text) -> None:
    text = """<ir_version: 9, opset_import: ["" : 19]>
    g (float[N, 2] x) => (float[N, 1] y)
    <float s = {0.0123}, int8 zero = {0}, float[2, 1] w = {1.0, 1.0}> {
        q = QuantizeLinear(x, s, zero)
        d = DequantizeLinear(q, s, zero)
        y = MatMul(d, w)
    }"""
    half = model_from_text(text)
    half.graph.inputs[0].dtype = half.graph.outputs[0].dtype = DType.FLOAT16
    cast_floats(half, DType.FLOAT16)
    model = faithful(half)
    casts = [node for node in model.graph.nodes if node.op_type == "Cast" and "d" in node.outputs]
    assert not casts
    session = OnnxRuntimeSession.from_graph(encode_model(model))
    x, step = np.array([[1.0, 0.5]], np.float16), np.float32(np.float16(0.0123))
    whole = np.round(x.astype(np.float32) / step)
    assert session.run({"x": x})["y"] == (whole.sum() * step).astype(np.float16)


@pytest.mark.parametrize("opset", [12, 13])
def test_rounding_where_cast_knows_no_bfloat16(model_from_text, opset: int) -> None:
    model = model_from_text(
        f'<ir_version: 7, opset_import: ["" : {opset}]> g (float[N] x) => (float[N] y) {{ y = Neg(x) }}'
    )
    node = model.graph.nodes[0]
    node.outputs[0] = "exact"
    model.graph.nodes += rounder_of(opset)("exact", "y", DType.BFLOAT16, set())
    assert any(isinstance(n, Node) and n.op_type == "Cast" for n in model.graph.nodes) == (opset == 13)
    x = np.random.default_rng(1).standard_normal(1000).astype(np.float32)
    found = OnnxRuntimeSession.from_graph(encode_model(model)).run({"x": x})["y"]
    assert np.array_equal(found, -(x.astype(ml_dtypes.bfloat16).astype(np.float32)))


@pytest.mark.parametrize("dtype", NUMPY)
def test_the_types_roundings(dtype: DType) -> None:
    info = ml_dtypes.finfo(NUMPY[dtype])
    assert ROUNDINGS[dtype].unit == float(info.eps) / 2
    assert ROUNDINGS[dtype].least == float(info.smallest_subnormal) / 2
