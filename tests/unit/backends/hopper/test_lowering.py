"""From a Q/DQ graph to operations, and what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cmx4trt.backends.hopper import reference
from cmx4trt.backends.hopper.lowering import lower
from cmx4trt.backends.hopper.network import AveragePool, Classifier, Convolution, MaxPool, Network, Projection, Residual
from cmx4trt.base.progress import Silent
from cmx4trt.errors import UnsupportedError
from cmx4trt.ir.model import DType, Graph, Model, Node, Tensor, ValueInfo
from cmx4trt.networks.graphs import prepared_from_network
from cmx4trt.quantize import quantize_network
from cmx4trt.requests.build import BuildRequest

Change = Callable[[Graph], object]


def convolution(network: Network, name: str) -> Convolution:
    return next(op for op in network.operations if isinstance(op, Convolution) and op.name == name)


def test_resnet50_becomes_52_operations(hopper_resnet50: Any) -> None:
    network = hopper_resnet50.network
    assert Counter(type(operation) for operation in network.operations) == {
        Convolution: 49,
        MaxPool: 1,
        AveragePool: 1,
        Classifier: 1,
    }
    addends = Counter(type(op.addend) for op in network.operations if isinstance(op, Convolution))
    assert addends == {Projection: 4, Residual: 12, type(None): 33}
    assert network.input.signed
    assert not any(a.signed for a in network.activations.values() if a is not network.input)
    assert network.classifier.weights.shape == (1001, 2048)
    stem = network.operations[0]
    assert isinstance(stem, Convolution)
    assert (stem.weights.shape, stem.stride, stem.padding) == ((64, 7, 7, 3), 2, 3)
    assert stem.weights.dtype == np.int8
    assert network.activations[stem.output].height == 112


def test_operations_read_what_is_there(hopper_resnet50: Any) -> None:
    network = hopper_resnet50.network
    known = {network.input.name}
    for operation in network.operations:
        assert known.issuperset(reference.inputs_of(operation))
        if not isinstance(operation, Classifier):
            known.add(operation.output)
    assert known == network.activations.keys()


@pytest.mark.slow
def test_the_mlperf_files_form_lowers(
    mlperf_like: Callable[..., Model], lowered_for_hopper: Callable[..., Any]
) -> None:
    """Padding before the convolutions, batch normalisation, MatMul and Add, Softmax and ArgMax, SAME max pooling."""
    model = mlperf_like()
    next(node for node in model.graph.nodes if node.op_type == "MaxPool").attributes["pads"] = [0, 0, 1, 1]
    made = lowered_for_hopper(model)
    pool = next(op for op in made.network.operations if isinstance(op, MaxPool))
    assert pool.padding == 0
    assert made.network.activations[pool.output].height == 56
    assert len(made.network.operations) == 52


def test_a_thousand_classes_and_a_transposed_product(
    resnet50_model: Model, lowered_for_hopper: Callable[..., Any]
) -> None:
    graph = resnet50_model.graph
    product = next(node for node in graph.nodes if node.op_type == "Gemm")
    weight = graph.initializers[product.inputs[1]].numpy()[:, :1000].T.copy()
    product.attributes["transB"] = 1
    product.inputs[1:] = ["w"]
    graph.initializers["w"] = Tensor.from_numpy("w", weight)
    found = lowered_for_hopper(resnet50_model).network.classifier
    assert found.weights.shape == (1000, 2048)
    exact = weight * np.float64(127) / np.abs(weight).max(axis=1, keepdims=True)
    assert np.abs(found.weights - exact).max() < 0.501


def test_constants_are_computed_in_float64_and_rounded_once(hopper_toy: Callable[..., Any]) -> None:
    made = hopper_toy()
    constants = {name: tensor.numpy() for name, tensor in made.model.graph.initializers.items()}
    scale = {name: np.float64(constants[f"{name}_scale"]) for name in ("input", "r3", "r4", "p1", "r7", "r8", "f")}
    network = made.lowered()
    block = convolution(network, "c4")
    np.testing.assert_array_equal(
        block.multiplier, (scale["r3"] * np.float64(constants["w4_scale"]) / scale["r4"]).astype(np.float32)
    )
    assert isinstance(block.addend, Projection)
    np.testing.assert_array_equal(
        block.addend.multiplier, (scale["p1"] * np.float64(constants["w5_scale"]) / scale["r4"]).astype(np.float32)
    )
    shortcut = next(node for node in made.model.graph.nodes if node.outputs[0] == "d4")
    main = next(node for node in made.model.graph.nodes if node.outputs[0] == "c4")
    total = sum(np.float64(constants[node.inputs[2]]) for node in (shortcut, main))
    np.testing.assert_array_equal(block.bias, (total / scale["r4"]).astype(np.float32))
    same = convolution(network, "c8")
    assert same.addend == Residual("r4", float(np.float32(scale["r4"] / scale["r8"])))
    average = next(op for op in network.operations if isinstance(op, AveragePool))
    assert average.multiplier == np.float32(scale["r8"] / (16 * scale["f"]))
    np.testing.assert_array_equal(
        network.classifier.multiplier, (scale["f"] * np.float64(constants["w9_scale"])).astype(np.float32)
    )


def test_scales_of_uint8_use_all_steps(hopper_toy: Callable[..., Any]) -> None:
    """Each range is used up: the largest integer is 255 behind Relu, 127 of the input (the calibration images')."""
    made = hopper_toy()
    from cmx4trt.quantize.random_samples import RandomSamples

    samples = RandomSamples((3, 32, 32), 4).part(0, 2)
    images = np.concatenate([samples.read(index) for index in range(2)])
    found = reference.run(made.lowered(), images, keep=True).activations
    assert np.abs(found["input"].astype(int)).max() == 127
    assert found["r1"].max() >= 254


@pytest.mark.parametrize("dtype", ["int8", "fp16"])
def test_other_input_types(hopper_toy: Callable[..., Any], dtype: str) -> None:
    expected, found = hopper_toy().lowered(), hopper_toy(input_dtype=dtype).lowered()
    assert (found.input.name, found.input.signed, found.input.scale) == ("input", True, expected.input.scale)
    assert [op.name for op in found.operations] == [op.name for op in expected.operations]


def test_float16_outputs_are_the_rounded_logits(hopper_toy: Callable[..., Any]) -> None:
    found = hopper_toy(output_dtype="fp16").lowered().classifier
    np.testing.assert_array_equal(found.multiplier, hopper_toy().lowered().classifier.multiplier)


POOL = "pads = [1, 1, 1, 1]> (r1)"


@pytest.mark.parametrize(
    ("pads", "padding"),
    [
        ("pads = [0, 0, 1, 1]", 0),
        ('auto_pad = "SAME_UPPER"', 0),
        ('auto_pad = "SAME_LOWER"', 1),
        ("ceil_mode = 1", 0),
        ("pads = [1, 1, 0, 0]", 1),
    ],
)
def test_ways_to_pad_a_pooling(hopper_toy: Callable[..., Any], pads: str, padding: int) -> None:
    made = hopper_toy(POOL, f"{pads}> (r1)")
    network = made.lowered()
    pool = next(op for op in network.operations if isinstance(op, MaxPool))
    assert pool.padding == padding
    assert network.activations["p1"].height == 8


def test_ways_to_pad_a_convolution(hopper_toy: Callable[..., Any]) -> None:
    made = hopper_toy("<pads = [1, 1, 1, 1]> (r6, w7, b7)", '<auto_pad = "SAME_UPPER"> (r6, w7, b7)')
    assert convolution(made.lowered(), "c7").padding == 1
    made = hopper_toy("<pads = [1, 1, 1, 1], strides = [2, 2]> (r2", "<pads = [1, 1, 0, 0], strides = [2, 2]> (r2")
    assert convolution(made.lowered(), "c3").padding == 1


REFUSED_TEXTS = {
    "padding": (
        ("<pads = [1, 1, 1, 1], strides = [2, 2]> (r2", "<pads = [0, 0, 1, 1], strides = [2, 2]> (r2"),
        {},
        "Conv 'c3': windows must be square, without dilation, with equal strides and the same padding on all sides",
    ),
    "dilation": (
        ("<pads = [1, 1, 1, 1]> (r6", "<pads = [2, 2, 2, 2], dilations = [2, 2]> (r6"),
        {},
        "Conv 'c7': windows must be square, without dilation",
    ),
    "groups": (
        ("<pads = [1, 1, 1, 1]> (r6", "<pads = [1, 1, 1, 1], group = 2> (r6"),
        {"w7": (8, 4, 3, 3)},
        "Conv 'c7': groups are not supported",
    ),
    "pool": ((POOL, "pads = [2, 2, 1, 1]> (r1)"), {}, "MaxPool 'p1': only windows of 3x3 with stride 2 and padding 0"),
    "small pool": ((POOL, "pads = [0, 0, 0, 0]> (r1)"), {"w5": (16, 8, 1, 1)}, "MaxPool 'p1': its output is 7x7"),
    "shortcut": (
        ("<strides = [2, 2]> (p1, w5", "<strides = [2, 2], pads = [1, 1, 1, 1]> (p1, w5"),
        {"w5": (16, 8, 3, 3)},
        "Conv 'd4': a shortcut must be a 1x1 convolution without padding",
    ),
    "kept": (
        ("r6 = Relu", "r6 = Sigmoid"),
        {},
        "Sigmoid 'r6': its result is quantized; only those of Relu",
    ),
    "addends": (("a8 = Add (r4, c8)", "a8 = Add (r4, r4)"), {}, "Add 'a8': its input 'r4' is not quantized"),
    "average": (
        ("g = GlobalAveragePool (r8)", "g = AveragePool <kernel_shape = [4, 4]> (r8)"),
        {},
        "Flatten 'f': its result is quantized",
    ),
}


@pytest.mark.parametrize("name", REFUSED_TEXTS)
def test_what_no_kernel_computes_is_refused_by_name(hopper_toy: Callable[..., Any], name: str) -> None:
    replaced, shapes, sentence = REFUSED_TEXTS[name]
    made = hopper_toy(*replaced, shapes=shapes)
    with pytest.raises(UnsupportedError, match=r"the builder hopper cannot build ") as caught:
        made.lowered()
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_layer_in_float_is_refused(hopper_toy: Callable[..., Any]) -> None:
    made = hopper_toy(keep_fp16="c6")
    with pytest.raises(UnsupportedError, match=r"Conv 'c6': its input 'r4' is not quantized, .* omit keep_fp16"):
        made.lowered()


def test_a_graph_quantized_for_tensorrt_is_refused(resnet50_network_for_tensorrt: Model) -> None:
    with pytest.raises(UnsupportedError, match=r"the builder hopper cannot build .*float32"):
        lower(resnet50_network_for_tensorrt)


@pytest.fixture
def resnet50_network_for_tensorrt(resnet50_model: Model, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Model:
    from cmx4trt.networks import spec_of
    from cmx4trt.networks.graphs import network_from_model

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    request = BuildRequest.from_values(
        {"random_weights": 0, "precision": "int8", "calibration_data": "random", "calibration_count": 1}
        | {"calibration_method": "minmax"}
    )
    network = network_from_model(resnet50_model, spec_of("resnet50"), request)
    quantize_network(network, request, Silent())
    return prepared_from_network(network, request).model


def node_with(graph: Graph, output: str) -> Node:
    return graph.producers()[output]


def constant(graph: Graph, name: str, value: Any) -> None:
    graph.initializers[name] = Tensor.from_numpy(name, np.asarray(value))


EDITS: dict[str, tuple[Change, str]] = {
    "scale of a pooling": (
        lambda graph: constant(graph, "p1_scale", np.float32(3)),
        "MaxPool 'p1': its input has the scale",
    ),
    "zero point": (lambda graph: constant(graph, "r6_zero_point", np.uint8(1)), "'r6' must be uint8 with zero point 0"),
    "signed": (lambda graph: constant(graph, "r6_zero_point", np.int8(0)), "'r6' must be uint8 with zero point 0"),
    "unsigned input": (
        lambda graph: constant(graph, "input_zero_point", np.uint8(0)),
        "'input' must be int8 with zero point 0",
    ),
    "vector scale": (
        lambda graph: constant(graph, "r6_scale", np.ones(8, np.float32)),
        "its scale must be one float32",
    ),
    "no scale": (
        lambda graph: constant(graph, "r6_scale", np.float32(0)),
        "its scale is 0, expected a positive number",
    ),
    "nan": (lambda graph: constant(graph, "r6_scale", np.float32("nan")), "its scale is nan, expected a positive"),
    "overflow": (
        lambda graph: constant(graph, "r8_scale", np.float32(1e-38)),
        "its scales exceed float32's range; calibrate again",
    ),
    "weight scales": (
        lambda graph: constant(graph, "w6_scale", np.float32(1)),
        "Conv 'c6': its weights must be int8 with zero point 0 and one scale per output channel",
    ),
    "weight zero points": (
        lambda graph: constant(graph, "w6_zero_point", np.ones(8, np.int8)),
        "Conv 'c6': its weights must be int8",
    ),
    "float weights": (
        lambda graph: node_with(graph, "c6").inputs.__setitem__(1, "w6_int8"),
        "Conv 'c6': its weights are not quantized",
    ),
    "output": (
        lambda graph: graph.outputs.append(ValueInfo("r8", DType.FLOAT, None)),
        "writes logits and class, the graph has logits, class, r8",
    ),
    "product": (
        lambda graph: node_with(graph, "logits").attributes.__setitem__("alpha", 2.0),
        "Gemm 'logits': logits must come from a plain Gemm",
    ),
    "addends": (
        lambda graph: node_with(graph, "a8").inputs.__setitem__(1, "r4_dequantized"),
        "Add 'a8': neither of its inputs is a convolution",
    ),
    "input size": (
        lambda graph: setattr(graph.inputs[0], "dims", ("N", 3, "H", "W")),
        "the input 'input' has no fixed channels, height and width",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_quantization_of_another_kind_is_refused(hopper_toy: Callable[..., Any], name: str) -> None:
    edit, sentence = EDITS[name]
    model = hopper_toy().model
    edit(model.graph)
    with pytest.raises(UnsupportedError) as caught:
        lower(model)
    assert sentence in str(caught.value)
