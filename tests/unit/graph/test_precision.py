from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cmx4trt.errors import ModelError
from cmx4trt.graph.precision import bfloat16_bits, cast_floats, cast_tensor, check_finite, floats_from_tensor
from cmx4trt.ir.model import DType, Tensor
from cmx4trt.ir.onnx_file import encode_model

TEXT = """<ir_version: 9, opset_import: ["" : 19]>
g (float[N, 2] x) => (float[N, 2] y, float[N, 2] z)
<float[2, 2] w = {1.0, 2.0, 3.0, 4.0}, float[2] b = {0.5, 0.25}> {
    a = MatMul(x, w)
    y = Add(a, b)
    z = Relu(y)
}"""


def check(model) -> onnx.ModelProto:
    proto = onnx.load_model_from_string(encode_model(model, None).message)
    onnx.checker.check_model(proto, full_check=True)
    return proto


@pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.BFLOAT16])
def test_everything_inside_is_cast_and_the_border_keeps_its_types(model_from_text, dtype: DType) -> None:
    model = model_from_text(TEXT)
    assert cast_floats(model, dtype) == 3
    check(model)
    assert [info.dtype for info in model.graph.inputs + model.graph.outputs] == [DType.FLOAT] * 3
    assert {t.dtype for t in model.graph.initializers.values()} == {dtype}
    assert model.opset == (22 if dtype is DType.BFLOAT16 else 19)


def test_float32_stays_as_it_is(model_from_text) -> None:
    model = model_from_text(TEXT)
    assert cast_floats(model, DType.FLOAT) == 0
    assert len(model.graph.nodes) == 3


def test_kept_nodes_compute_in_float32(model_from_text) -> None:
    model = model_from_text(TEXT)
    next(n for n in model.graph.nodes if n.op_type == "Add").name = "sum"
    cast_floats(model, DType.FLOAT16, keep={"sum"})
    check(model)
    inputs = next(n for n in model.graph.nodes if n.op_type == "Add").inputs
    assert model.graph.initializers[inputs[1]].dtype is DType.FLOAT


def test_float16_input_and_output(model_from_text) -> None:
    model = model_from_text(TEXT)
    model.graph.inputs[0].dtype = model.graph.outputs[1].dtype = DType.FLOAT16
    assert cast_floats(model, DType.FLOAT16) == 1
    check(model)


def test_a_float16_file_becomes_float32(model_from_text) -> None:
    model = model_from_text(TEXT)
    cast_floats(model, DType.FLOAT16)
    model.graph.nodes = [n for n in model.graph.nodes if n.op_type != "Cast"]
    model = model_from_text(TEXT)
    for name, tensor in list(model.graph.initializers.items()):
        model.graph.initializers[name] = cast_tensor(tensor, DType.FLOAT16, name)
    cast_floats(model, DType.FLOAT)
    check(model)
    assert {t.dtype for t in model.graph.initializers.values()} == {DType.FLOAT}


def test_resize_scales_and_integers_stay(model_from_text) -> None:
    text = """<ir_version: 9, opset_import: ["" : 19]>
    g (float[1, 1, 2, 2] x) => (float[1, 1, 4, 4] y, int64[1, 1, 2] i)
    <float[4] scales = {1.0, 1.0, 2.0, 2.0}, int64[1] axes = {3}> {
        y = Resize<mode = "nearest">(x, , scales)
        a = ReduceMax<keepdims = 0>(x, axes)
        i = ArgMax<axis = 3, keepdims = 0>(x)
    }"""
    model = model_from_text(text)
    cast_floats(model, DType.FLOAT16)
    check(model)
    assert model.graph.initializers["scales"].dtype is DType.FLOAT


def test_weights_beyond_float16_are_refused(model_from_text) -> None:
    model = model_from_text(TEXT.replace("4.0}", "1e6}"))
    with pytest.raises(ModelError, match=r"weight 'w' cannot be float16: its largest magnitude is 1e\+06"):
        cast_floats(model, DType.FLOAT16)
    cast_floats(model_from_text(TEXT.replace("4.0}", "1e6}")), DType.BFLOAT16)


@given(hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(width=32)))
def test_bfloat16_rounds_as_the_reference_does(values: np.ndarray) -> None:
    import ml_dtypes

    with np.errstate(all="ignore"):
        expected = values.astype(ml_dtypes.bfloat16)
    ours = bfloat16_bits(values)
    nan = np.isnan(values)
    assert np.array_equal(ours[~nan], expected.view(np.uint16)[~nan])
    back = floats_from_tensor(Tensor.from_numpy("t", ours, DType.BFLOAT16))
    assert np.isnan(back[nan]).all()


def test_a_file_of_the_same_type_keeps_its_bytes() -> None:
    """float16 -> float32 network -> float16 graph: nothing is computed, and nothing copied."""
    half = Tensor.from_numpy("w", np.array([1.5, -0.1, 65504.0], np.float16))
    wide = cast_tensor(half, DType.FLOAT, "w")
    assert (wide.dtype, wide.dims) == (DType.FLOAT, (3,))
    back = cast_tensor(wide.renamed("v"), DType.FLOAT16, "v_half")
    assert back.data is half.data
    assert back.name == "v_half"
    np.testing.assert_array_equal(wide.numpy(), half.numpy().astype(np.float32))
    np.testing.assert_array_equal(cast_tensor(wide, DType.BFLOAT16, "b").numpy(), bfloat16_bits(wide.numpy()))


def test_the_weights_of_a_float16_file_need_no_numpy() -> None:
    """Importing it takes longer than all else that happens to them."""
    program = """if True:
        import sys
        from cmx4trt.graph.precision import cast_tensor, check_finite
        from cmx4trt.ir.model import DType, Tensor
        half = Tensor("w", DType.FLOAT16, (2,), bytes([0, 0x3C, 0xFF, 0x7B]))
        back = cast_tensor(cast_tensor(half, DType.FLOAT, "w"), DType.FLOAT16, "w")
        check_finite([back])
        assert back.data is half.data
        print("numpy" in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("position", [0, 1, 131071, 131072, 262143])
def test_values_that_are_none_are_found_wherever_they_are(position: int) -> None:
    """At both ends of the pieces that are looked at."""
    values = np.full(262144, 65504, np.float16)
    check_finite([Tensor.from_numpy("w", values), Tensor.from_numpy("v", -values)])
    values[position] = np.nan
    with pytest.raises(ModelError, match="weight 'w' cannot be float16: its largest magnitude is nan"):
        check_finite([Tensor.from_numpy("w", values)])


def test_weights_that_stay_as_they_are_can_be_checked_later(model_from_text) -> None:
    model = model_from_text(TEXT)
    name, tensor = next((n, t) for n, t in model.graph.initializers.items() if t.dtype is DType.FLOAT)
    half = Tensor.from_numpy(name, np.full(tensor.dims, np.inf, np.float16))
    model.graph.initializers[name] = cast_tensor(half, DType.FLOAT, name)
    unchecked: list[Tensor] = []
    cast_floats(model.copy(), DType.FLOAT16, unchecked=unchecked)
    for check in (lambda: check_finite(unchecked), lambda: cast_floats(model, DType.FLOAT16)):
        with pytest.raises(ModelError, match=f"weight '{name}' cannot be float16: its largest magnitude is inf"):
            check()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_float16_file_with_values_that_are_none_is_refused(value: float) -> None:
    half = Tensor.from_numpy("w", np.array([1.0, value], np.float16))
    with pytest.raises(ModelError, match="weight 'w' cannot be float16"):
        cast_tensor(cast_tensor(half, DType.FLOAT, "w"), DType.FLOAT16, "w")
