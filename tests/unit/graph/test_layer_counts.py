"""Layers counted from shapes, against ONNX's own shape inference and known figures."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmx4trt.graph.layers import Layer, count_layers
from cmx4trt.graph.network import PreparedGraph
from cmx4trt.graph.shapes import floats_of
from cmx4trt.ir.model import DType, Graph, Model, Node, Tensor, ValueInfo
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.networks import spec_of
from cmx4trt.networks.graphs import network_from_model, prepared_from_network
from cmx4trt.requests.build import BuildRequest

RESNET50_GMACS = 4.089
"""ResNet-50 v1.5 at 224x224 (the stride in the 3x3 convolution), with 1001 classes; torchvision's table says 4.09 for 1000."""


def prepared_resnet50(model: Model, precision: str) -> PreparedGraph:
    request = BuildRequest.from_values({"precision": precision})
    return prepared_from_network(network_from_model(model, spec_of("resnet50"), request), request)


def inferred_shapes(model: Model) -> tuple[onnx.ModelProto, dict[str, tuple[int, ...]]]:
    """All shapes that ONNX's own inference finds for one image."""
    proto = onnx.load_model_from_string(encode_model(model, None).message)
    for info in proto.graph.input:
        info.type.tensor_type.shape.dim[0].dim_value = 1
    for info in proto.graph.output:
        info.type.tensor_type.shape.dim[0].dim_param = ""
        info.type.tensor_type.shape.dim[0].dim_value = 1
    proto = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    values = [*proto.graph.input, *proto.graph.output, *proto.graph.value_info]
    shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}
    return proto, shapes | {t.name: tuple(t.dims) for t in proto.graph.initializer}


def macs_by_onnx(model: Model) -> int:
    """Convolutions and matrix products, from ONNX's shapes: out elements x kernel area x input channels of a group."""
    proto, shapes = inferred_shapes(model)
    total = 0
    for node in proto.graph.node:
        if node.op_type == "Conv":
            total += prod(shapes[node.output[0]]) * prod(shapes[node.input[1]][1:])
        elif node.op_type in ("Gemm", "MatMul"):
            total += prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    return total


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_resnet50_agrees_with_onnx_and_the_known_figure(mlperf_like: Callable[..., Model], precision: str) -> None:
    prepared = prepared_resnet50(mlperf_like(), precision)
    counted = count_layers(prepared.model.graph)
    assert sum(layer.macs for layer in counted.layers) == macs_by_onnx(prepared.model)
    assert sum(layer.macs for layer in counted.layers) / 1e9 == pytest.approx(RESNET50_GMACS, abs=5e-4)
    convolutions = [layer for layer in counted.layers if layer.op.startswith("Conv")]
    assert len(convolutions) == 53
    assert {layer.precision for layer in convolutions} == {precision}
    assert counted.constant_bytes == sum(len(memoryview(t.data)) for t in prepared.model.graph.initializers.values())
    assert sum(layer.weight_bytes for layer in counted.layers) == pytest.approx(counted.constant_bytes, rel=1e-5)


def test_output_shapes_are_those_onnx_infers(resnet50_model: Model) -> None:
    prepared = prepared_resnet50(resnet50_model, "fp32")
    _, shapes = inferred_shapes(prepared.model)
    outputs = {node.name or node.outputs[0]: node.outputs[0] for node in prepared.model.graph.nodes}
    counted = count_layers(prepared.model.graph).layers
    assert [list(shapes[outputs[layer.name]][1:]) for layer in counted] == [layer.shape for layer in counted]


def test_detector_agrees_with_onnx(toy_detector: Any) -> None:
    prepared = toy_detector.prepared(toy_detector.model(), precision="fp16", postprocess="none")
    counted = count_layers(prepared.model.graph)
    assert sum(layer.macs for layer in counted.layers) == macs_by_onnx(prepared.model) > 0


def test_selection_of_detections_is_not_counted_but_named(toy_detector: Any) -> None:
    prepared = toy_detector.prepared(toy_detector.model())
    raw = toy_detector.prepared(toy_detector.model(), postprocess="none")
    counted = count_layers(prepared.model.graph)
    assert counted.layers == count_layers(raw.model.graph).layers
    assert counted.uncounted["TopK"] > 0
    assert "Conv" not in counted.uncounted


def layers_of(parse: Callable[[str], Model], text: str) -> list[Layer]:
    return count_layers(parse(text).graph).layers


def block(body: str) -> str:
    """A convolution from x to a, and what follows it."""
    weights = "{" + ", ".join(["0.0"] * 216) + "}"
    convolution = "a = Conv<pads = [1, 1, 1, 1]>(x, w)"
    return (
        f"g (float[N, 4, 8, 8] x) => (float[N, 6, 8, 8] y) <float[6, 4, 3, 3] w = {weights}> {{ {convolution} {body} }}"
    )


def test_element_wise_operators_belong_to_the_layer_before(model_from_text: Callable[[str], Model]) -> None:
    (layer,) = layers_of(model_from_text, block("b = Relu(a)  y = Sigmoid(b)"))
    assert layer.op == "Conv + Relu + Sigmoid"
    assert layer.macs == 6 * 8 * 8 * 4 * 9
    assert layer.weight_bytes == 216 * 4
    assert layer.activation_bytes == (4 + 6) * 64 * 4


def test_a_result_with_two_readers_is_written(model_from_text: Callable[[str], Model]) -> None:
    first, second = layers_of(model_from_text, block("b = Relu(a)  y = Add(a, b)"))
    assert (first.op, second.op) == ("Conv", "Relu + Add")
    assert second.activation_bytes == 3 * 6 * 64 * 4  # reads a for each of the two, writes y


def test_an_addition_reads_its_other_side(model_from_text: Callable[[str], Model]) -> None:
    text = block("b = MaxPool<kernel_shape = [1, 1]>(a)  c = Conv<pads = [1, 1, 1, 1]>(x, w)  y = Add(b, c)")
    layers = layers_of(model_from_text, text)
    assert [layer.op for layer in layers] == ["Conv", "MaxPool", "Conv + Add"]
    assert layers[2].activation_bytes == (4 + 6 + 6) * 64 * 4


def test_views_move_nothing_and_unknown_operators_end_the_count(model_from_text: Callable[[str], Model]) -> None:
    model = model_from_text(
        """g (float[N, 4, 2, 2] x) => (float[N, 16] y)
        <int64[2] s = {0, -1}>
        { a = Reshape(x, s)  b = Hardmax(a)  y = Relu(b) }"""
    )
    counted = count_layers(model.graph)
    assert counted.layers == []
    assert counted.uncounted == {"Hardmax": 1, "Relu": 1}


def test_int8_layers_say_so_with_their_scale_and_bytes() -> None:
    counted = count_layers(quantized_block())
    (quantize, layer) = counted.layers
    assert (quantize.op, quantize.precision) == ("QuantizeLinear", "fp16")
    assert quantize.activation_bytes == 4 * 64 * 2 + 4 * 64
    assert (layer.op, layer.precision) == ("Conv + Relu", "int8")
    assert (layer.input_scale, layer.input_steps) == (0.0625, 127)
    assert layer.weight_bytes == 216
    assert layer.activation_bytes == 4 * 64 + 6 * 64 * 2


def test_uint8_with_int8_weights_is_int8_arithmetic_of_255_steps() -> None:
    (quantize, layer) = count_layers(quantized_block(np.uint8)).layers
    assert quantize.op == "QuantizeLinear"
    assert (layer.precision, layer.input_scale, layer.input_steps) == ("int8", 0.0625, 255)


def quantized_block(dtype: type = np.int8) -> Graph:
    """Q/DQ before an int8 convolution, the rest in float16."""
    constants = {
        "scale": Tensor.from_numpy("scale", np.array(0.0625, np.float16)),
        "zero": Tensor.from_numpy("zero", np.array(0, dtype)),
        "zeros": Tensor.from_numpy("zeros", np.array(0, np.int8)),
        "weight": Tensor.from_numpy("weight", np.zeros((6, 4, 3, 3), np.int8)),
    }
    nodes = [
        Node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        Node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        Node("DequantizeLinear", ["weight", "scale", "zeros"], ["w"]),
        Node("Conv", ["d", "w"], ["a"], {"pads": [1, 1, 1, 1]}, "conv"),
        Node("Relu", ["a"], ["y"]),
    ]
    infos = [ValueInfo(name, DType.FLOAT16, ("N", size, 8, 8)) for name, size in (("x", 4), ("y", 6))]
    return Graph("g", nodes, constants, infos[:1], infos[1:])


@pytest.mark.parametrize(
    ("dtype", "array"),
    [
        (DType.FLOAT, np.array([1.5, -2.0], np.float32)),
        (DType.FLOAT16, np.array([1.5, -2.0], np.float16)),
        (DType.BFLOAT16, np.array([0x3FC0, 0xC000], np.uint16)),
    ],
)
def test_floats_are_read_without_numpy(dtype: DType, array: np.ndarray) -> None:
    assert floats_of(Tensor("t", dtype, (2,), array.tobytes())) == [1.5, -2.0]


def test_only_floats_are_floats() -> None:
    with pytest.raises(ValueError, match="expected a floating-point constant"):
        floats_of(Tensor("t", DType.INT8, (1,), b"\0"))


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(7, 20),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    pads=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    groups=st.sampled_from([1, 2, 4]),
    pool=st.booleans(),
    ceil=st.integers(0, 1),
)
def test_windows_are_those_of_onnx(
    size: int, kernel: int, stride: int, dilation: int, pads: list[int], groups: int, pool: bool, ceil: int
) -> None:
    window = {"strides": [stride] * 2, "dilations": [dilation] * 2, "pads": pads}
    pads = [min(pad, kernel - 1) for pad in pads]
    weight = Tensor.from_numpy("w", np.zeros((8, 4 // groups, kernel, kernel), np.float32))
    if dilation * (kernel - 1) + 1 > size:
        return
    if pool:
        window = {**window, "pads": pads, "kernel_shape": [kernel] * 2, "ceil_mode": ceil}
        nodes, constants = [Node("MaxPool", ["x"], ["y"], window)], {}
    else:
        nodes, constants = [Node("Conv", ["x", "w"], ["y"], {**window, "group": groups})], {"w": weight}
    inputs = [ValueInfo("x", DType.FLOAT, (1, 4, size, size))]
    model = Model(
        Graph("g", nodes, constants, inputs, [ValueInfo("y", DType.FLOAT, (1, None, None, None))]), {"": 19}, 9
    )
    (layer,) = count_layers(model.graph).layers
    _, shapes = inferred_shapes(model)
    assert layer.shape == list(shapes["y"][1:])
    assert layer.macs == (0 if pool else macs_by_onnx(model))
