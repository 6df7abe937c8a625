"""The specification against ONNX Runtime over the very graph that was lowered, and against definitions written plainly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cmx4trt.backends.hopper import reference
from cmx4trt.backends.hopper.arithmetic import fma32
from cmx4trt.backends.hopper.network import Activation, Convolution, MaxPool, Network, Projection, Residual
from cmx4trt.ir.model import DType, Model, ValueInfo
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession


def computed_by_onnx_runtime(model: Model, images: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """All stored activations [N, H, W, C] by name, ``logits`` and ``class``."""
    copy = model.copy()
    graph = copy.graph
    stored = {node.inputs[0]: node.outputs[0] for node in graph.nodes if node.op_type == "QuantizeLinear"}
    graph.outputs += [ValueInfo(value, DType.UINT8, None) for value in stored.values()]
    graph.outputs[-len(stored)].dtype = DType.INT8  # the input comes first
    found = OnnxRuntimeSession.from_graph(encode_model(copy)).run({graph.inputs[0].name: images})
    values = {tensor: found[value] for tensor, value in stored.items()}
    for name, value in values.items():
        values[name] = value.reshape(len(value), -1, *value.shape[2:] or (1, 1)).transpose(0, 2, 3, 1)
    return {**values, "logits": found["logits"], "class": found["class"]}


def compare_operations(network: Network, expected: dict[str, NDArray[Any]], share: float) -> None:
    """Every operation on ONNX Runtime's own inputs: equal but for ``share`` of the values, which differ by one."""
    for operation in network.operations[:-1]:
        found = reference.run_operation(network, operation, expected)
        difference = np.abs(found.astype(int) - expected[operation.output])
        assert difference.max() <= 1, operation.name
        assert (difference > 0).mean() <= share, operation.name
    logits = reference.run_operation(network, network.classifier, expected)
    np.testing.assert_allclose(logits, expected["logits"], rtol=1e-5, atol=1e-4)


def test_every_operation_of_a_small_network_agrees_with_onnx_runtime(hopper_toy: Callable[..., Any]) -> None:
    made = hopper_toy()
    images = np.random.default_rng(7).standard_normal((4, 3, 32, 32)).astype(np.float32)
    expected = computed_by_onnx_runtime(made.model, images)
    network = made.lowered()
    np.testing.assert_array_equal(reference.quantize_input(images, network.input.scale), expected["input"])
    compare_operations(network, expected, share=2e-3)


def test_every_operation_of_resnet50_agrees_with_onnx_runtime(hopper_resnet50: Any) -> None:
    images = np.random.default_rng(7).standard_normal((1, 3, 224, 224)).astype(np.float32)
    compare_operations(
        hopper_resnet50.network, computed_by_onnx_runtime(hopper_resnet50.prepared.model, images), share=2e-3
    )


def test_resnet50_agrees_with_onnx_runtime(hopper_resnet50: Any) -> None:
    """Steps of one that differ grow through 16 blocks; measured: 43 dB."""
    images = np.random.default_rng(7).standard_normal((2, 3, 224, 224)).astype(np.float32)
    expected = OnnxRuntimeSession.from_graph(hopper_resnet50.prepared.encoded).run({"input": images})
    found = reference.run(hopper_resnet50.network, images)
    error = found.logits.astype(np.float64) - expected["logits"]
    assert 10 * np.log10(np.square(expected["logits"]).sum() / np.square(error).sum()) > 35
    assert found.classes.tolist() == expected["class"].tolist()


def test_images_are_independent_and_may_be_int8(hopper_toy: Callable[..., Any]) -> None:
    network = hopper_toy().lowered()
    images = np.random.default_rng(1).standard_normal((5, 3, 32, 32)).astype(np.float32)
    together = reference.run(network, images, keep=True)
    alone = [reference.run(network, image[None]) for image in images]
    np.testing.assert_array_equal(together.logits, np.concatenate([one.logits for one in alone]))
    integers = together.activations["input"].transpose(0, 3, 1, 2)
    again = reference.run(network, integers)
    np.testing.assert_array_equal(again.logits, together.logits)
    np.testing.assert_array_equal(again.classes, together.logits.argmax(axis=1))
    assert not again.activations
    assert together.activations.keys() == network.activations.keys()
    for name, value in together.activations.items():
        activation = network.activations[name]
        assert value.shape[1:] == (activation.height, activation.width, activation.channels)


def test_float16_images_are_taken_at_their_value() -> None:
    half = np.array([[[[0.5, 1.5]]]], np.float16)
    np.testing.assert_array_equal(
        reference.quantize_input(half, 0.1), reference.quantize_input(half.astype(np.float32), 0.1)
    )


@pytest.mark.parametrize(
    ("value", "scale", "expected"), [(0.5, 1.0, 0), (1.5, 1.0, 2), (1e9, 1.0, 127), (-1e9, 1.0, -128)]
)
def test_the_input_is_rounded_to_even_and_clipped(value: float, scale: float, expected: int) -> None:
    assert reference.quantize_input(np.full((1, 1, 1, 1), value, np.float32), scale).item() == expected


KINDS = st.sampled_from(["plain", "residual", "projection"])


@given(st.integers(0, 10**6), KINDS, st.sampled_from([1, 3]), st.sampled_from([1, 2]))
def test_a_convolution_is_what_its_definition_says(seed: int, kind: str, kernel: int, stride: int) -> None:
    """Each output value computed by itself, from Python's whole numbers."""
    rng = np.random.default_rng(seed)
    source = rng.integers(0, 256, (2, 5, 5, 4)).astype(np.uint8)
    size = -(-5 // stride)
    extra = {
        "plain": np.zeros((2, size, size, 3), np.uint8),
        "residual": rng.integers(0, 256, (2, size, size, 3)).astype(np.uint8),
        "projection": rng.integers(0, 256, (2, size * 2, size * 2, 6)).astype(np.uint8),
    }[kind]
    addend = {
        "plain": None,
        "residual": Residual("other", float(np.float32(rng.uniform(0.1, 2)))),
        "projection": Projection("p", "other", integers(rng, (3, 1, 1, 6)), floats(rng, 3, 1e-2), 2),
    }[kind]
    operation = Convolution(
        *("conv", "x", "y", integers(rng, (3, kernel, kernel, 4)), floats(rng, 3, 1e-2), floats(rng, 3, 50.0)),
        *(stride, kernel // 2, addend),
    )
    found = reference.run_operation(network_of(operation), operation, {"x": source, "other": extra})
    assert found.shape == (2, size, size, 3)
    for n, row, column, channel in np.ndindex(found.shape):
        at = row * stride - kernel // 2, column * stride - kernel // 2
        total = window_sum(source[n], operation.weights[channel], *at)
        offset = operation.bias[channel]
        if isinstance(addend, Residual):
            byte = np.float32(128 + int(extra[n, row, column, channel]) / 256)
            less = np.float32(float(offset) - 32768 * addend.multiplier)
            offset = fma32(byte, np.float32(256 * addend.multiplier), less)
        elif isinstance(addend, Projection):
            other = window_sum(extra[n], addend.weights[channel], 2 * row, 2 * column)
            offset = fma32(np.float32(other), addend.multiplier[channel], offset)
        exact = float(fma32(np.float32(total), operation.multiplier[channel], offset))
        assert found[n, row, column, channel] == min(max(round(exact), 0), 255)


@pytest.mark.parametrize("channels", [512, 513, 2048])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_sums_are_exact(channels: int, sign: int) -> None:
    """Every second sum is odd, so that one lost unit would show as a step."""
    source = np.full((1, 1, 2, channels), 255, np.uint8)
    source[0, 0, 1, 0] = 254
    weights = np.full((1, 1, 1, channels), sign * 127, np.int8)
    total = 255 * 127 * channels
    bias = np.array([7 - sign * total], np.float64)
    operation = Convolution("conv", "x", "y", weights, np.ones(1, np.float32), bias.astype(np.float32), 1, 0)
    found = reference.run_operation(network_of(operation), operation, {"x": source})
    sums = np.array([total, total - 127]) * sign
    expected = fma32(sums.astype(np.float32), np.float32(1), operation.bias)
    np.testing.assert_array_equal(found.reshape(-1), np.clip(expected, 0, 255).astype(np.uint8))


def window_sum(image: NDArray[Any], weights: NDArray[Any], top: int, left: int) -> int:
    total = 0
    for row, column, channel in np.ndindex(weights.shape):
        y, x = top + row, left + column
        if 0 <= y < image.shape[0] and 0 <= x < image.shape[1]:
            total += int(image[y, x, channel]) * int(weights[row, column, channel])
    return total


def integers(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int8]:
    return rng.integers(-127, 128, shape).astype(np.int8)


def floats(rng: np.random.Generator, size: int, scale: float) -> NDArray[np.float32]:
    return (rng.standard_normal(size) * scale).astype(np.float32)


def network_of(operation: Any) -> Network:
    return Network(Activation("x", 5, 5, 4, 1.0), (operation,))


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("size", [4, 6, 112])
def test_max_pooling_ignores_what_lies_outside(padding: int, size: int) -> None:
    source = np.random.default_rng(size).integers(0, 256, (2, size, size, 3)).astype(np.uint8)
    operation = MaxPool("pool", "x", "y", padding)
    found = reference.run_operation(network_of(operation), operation, {"x": source})
    assert found.shape == (2, size // 2, size // 2, 3)
    for row, column in np.ndindex(found.shape[1:3]):
        top, left = max(2 * row - padding, 0), max(2 * column - padding, 0)
        window = source[:, top : 2 * row - padding + 3, left : 2 * column - padding + 3]
        np.testing.assert_array_equal(found[:, row, column], window.max(axis=(1, 2)))


def test_the_first_of_equal_logits_is_the_class(hopper_toy: Callable[..., Any]) -> None:
    network = hopper_toy().lowered()
    bias = np.array([1, 1, 1, 2, 2, 1, 1, 1, 1, 1], np.float32)
    classifier = replace(network.classifier, weights=np.zeros((10, 16), np.int8), bias=bias)
    network = replace(network, operations=(*network.operations[:-1], classifier))
    assert reference.run(network, np.zeros((2, 3, 32, 32), np.float32)).classes.tolist() == [3, 3]
