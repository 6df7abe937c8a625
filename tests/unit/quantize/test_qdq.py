"""Insertion of Q/DQ: checked by ONNX's own checker and reference evaluator."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.checker
import onnx.reference
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmx4trt.base.progress import Silent
from cmx4trt.ir.model import DType, Model
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.quantize.bias import mean_channels
from cmx4trt.quantize.observe import Method, Wanted, observe
from cmx4trt.quantize.placement import place, shared_scales
from cmx4trt.quantize.qdq import SMALLEST_SCALE, insert_qdq, storable_scale
from cmx4trt.quantize.random_samples import RandomSamples

SAMPLES = RandomSamples((3, 8, 8), 8)


def run(model: Model, images: np.ndarray) -> np.ndarray:
    proto = onnx.load_model_from_string(encode_model(model, None).message)
    onnx.checker.check_model(proto, full_check=True)
    return onnx.reference.ReferenceEvaluator(proto).run(None, {"x": images})[0]


def quantized(model: Model, int8_input: bool = False, corrected: bool = True) -> tuple[Model, float | None]:
    copy = model.copy()
    placement = place(copy.graph)
    wanted = Wanted(placement.activations, mean_channels(copy.graph, placement))
    observed = observe(model, wanted, SAMPLES, Method.MINMAX, Silent())
    scales = shared_scales(placement, {name: value / 127 for name, value in observed.ranges.items()})
    inserted = insert_qdq(copy, placement, scales, observed.means if corrected else None, int8_input)
    return copy, inserted.input_scale


def sqnr(expected: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10(np.square(expected).sum() / np.square(expected - got).sum()))


def images() -> np.ndarray:
    return np.concatenate([SAMPLES.read(i) for i in range(len(SAMPLES))])


@given(st.floats(1e-12, 400, width=64))
def test_stored_scales_are_float16_and_never_clip(scale: float) -> None:
    stored = storable_scale(np.array(scale))
    assert stored.dtype == np.float32
    assert np.float32(np.float16(stored)) == stored
    assert stored >= max(scale, SMALLEST_SCALE)
    if scale > 1e-4:
        assert stored <= scale * (1 + 2.0**-10)


def test_quantized_network_is_valid_and_close(residual: Model) -> None:
    assert sqnr(run(residual, images()), run(quantized(residual)[0], images())) > 25.0


def test_weights_are_int8_constants_with_only_a_dequantize(residual: Model) -> None:
    graph = quantized(residual)[0].graph
    producers = graph.producers()
    for node in [n for n in graph.nodes if n.op_type == "Conv"]:
        dequantize = producers[node.inputs[1]]
        assert dequantize.op_type == "DequantizeLinear"
        integers, scale = (graph.initializers[name] for name in dequantize.inputs[:2])
        assert integers.dtype is DType.INT8
        assert scale.dims == (integers.dims[0],)
        assert np.abs(integers.numpy()).max(axis=(1, 2, 3)).tolist() == [127] * integers.dims[0]
        activation = producers[node.inputs[0]]
        assert activation.op_type == "DequantizeLinear"
        assert producers[activation.inputs[0]].op_type == "QuantizeLinear"
    assert not {"w1", "w2", "w3", "w4", "w5"} & graph.initializers.keys()
    assert "w6" in graph.initializers


def test_one_pair_serves_all_readers(residual: Model) -> None:
    graph = quantized(residual)[0].graph
    quantize = [node.inputs[0] for node in graph.nodes if node.op_type == "QuantizeLinear"]
    assert len(quantize) == len(set(quantize))
    readers = graph.consumers()
    assert {n.outputs[0] for n in readers["r3_dequantized"]} == {"c5", "a2"}


def test_pool_has_one_scale_on_both_sides(residual: Model) -> None:
    graph = quantized(residual)[0].graph
    assert graph.initializers["r1_scale"].numpy() == graph.initializers["p1_scale"].numpy()


def test_a_shared_weight_is_stored_once(text_model) -> None:  # type: ignore[no-untyped-def]
    body = "a = Conv <pads = [1, 1, 1, 1]> (x, w, b) r = Relu (a) y = Conv <pads = [1, 1, 1, 1]> (r, w, b)"
    model = text_model(body, shapes={"w": (3, 3, 3, 3), "b": (3,)})
    expected = run(model, images())
    result, _ = quantized(model)
    assert sum(t.dtype is DType.INT8 and len(t.dims) == 4 for t in result.graph.initializers.values()) == 1
    dequantizing = [n for n in result.graph.nodes if n.op_type == "DequantizeLinear" and n.inputs[0] == "w_int8"]
    assert len(dequantizing) == 1
    # Each convolution has other means, so each gets a bias of its own.
    biases = {node.inputs[2] for node in result.graph.nodes if node.op_type == "Conv"}
    assert len(biases) == 2
    assert sqnr(expected, run(result, images())) > 30.0


def test_int8_input(residual: Model) -> None:
    expected = run(residual, images())
    result, scale = quantized(residual, int8_input=True)
    assert scale is not None
    assert result.graph.inputs[0].dtype is DType.INT8
    assert not any(n.op_type == "QuantizeLinear" and n.inputs[0] == "x" for n in result.graph.nodes)
    pixels = np.clip(np.rint(images() / np.float32(scale)), -128, 127).astype(np.int8)
    same = quantized(residual)[0]
    assert np.array_equal(run(result, pixels), run(same, images()))
    assert sqnr(expected, run(result, pixels)) > 25.0


def test_the_input_itself_is_left_alone_by_default(residual: Model) -> None:
    assert quantized(residual)[0].graph.inputs[0].dtype is DType.FLOAT


def test_scale_of_a_dead_tensor_is_no_zero(residual: Model) -> None:
    copy = residual.copy()
    placement = place(copy.graph)
    insert_qdq(copy, placement, dict.fromkeys(placement.activations, 0.0))
    scales = [t.numpy() for name, t in copy.graph.initializers.items() if name.endswith("_scale")]
    assert all((scale > 0).all() for scale in scales)
    run(copy, images())


def test_weights_of_a_dead_channel(residual: Model) -> None:
    weight = residual.graph.initializers["w2"].numpy().copy()
    weight[1] = 0.0
    residual.graph.initializers["w2"] = type(residual.graph.initializers["w2"]).from_numpy("w2", weight)
    result, _ = quantized(residual)
    assert np.isfinite(run(result, images())).all()
    assert result.graph.initializers["w2_scale"].numpy()[1] == SMALLEST_SCALE


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("has_bias", [True, False])
def test_bias_correction_removes_the_mean_error(text_model, groups: int, has_bias: bool) -> None:  # type: ignore[no-untyped-def]
    """One 1x1 convolution on exact integers, so that all error is the weights' and nothing depends on borders."""
    bias = ", b" if has_bias else ""
    body = f"p = Conv (x, e) r = Relu (p) y = Conv <group = {groups}> (r, w{bias})"
    shapes = {"e": (16, 3, 1, 1), "w": (4, 16 // groups, 1, 1), "b": (4,)}
    model = text_model(body, shapes=shapes)
    expected = run(model, images())
    plain, corrected = (run(quantized(model, corrected=flag)[0], images()) for flag in (False, True))
    mean_errors = [np.abs((got - expected).mean(axis=(0, 2, 3))).max() for got in (plain, corrected)]
    assert mean_errors[1] < 0.5 * mean_errors[0]
