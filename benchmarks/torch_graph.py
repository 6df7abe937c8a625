"""Runs an ONNX graph of a convolutional network in torch, on a GPU: float32 arithmetic, Q/DQ as written. For int8_accuracy.py.

Sums are taken in another order than in ONNX Runtime, so a value on the border of two int8 steps can fall on the other side.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional

Value = Any
"""A torch.Tensor."""
Attributes = dict[str, Any]


class TorchGraph:
    """A graph with one input, on a device."""

    def __init__(self, model: Path, device: str) -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        graph = onnx.load(model).graph
        self._device = device
        self._constants = {t.name: self._on_device(numpy_helper.to_array(t)) for t in graph.initializer}
        self._input = next(info.name for info in graph.input if info.name not in self._constants)
        self._outputs = [info.name for info in graph.output]
        self._nodes = [(n, {a.name: helper.get_attribute_value(a) for a in n.attribute}) for n in graph.node]
        unknown = sorted({node.op_type for node in graph.node} - OPERATORS.keys())
        if unknown:
            raise ValueError(f"{model.name} has operators that are not known here: {', '.join(unknown)}")

    def run(self, images: Any) -> dict[str, Any]:
        """All outputs for images [N, C, H, W] float32."""
        values: dict[str, Any] = {**self._constants, "": None, self._input: self._on_device(images)}
        reads = Counter(name for node, _ in self._nodes for name in node.input)
        reads.update([*self._outputs, *self._constants])
        with torch.inference_mode():
            for node, attributes in self._nodes:
                inputs = [values[name] for name in node.input]
                values[node.output[0]] = OPERATORS[node.op_type](attributes, *inputs)
                reads.subtract(node.input)
                for name in set(node.input) - {""}:
                    if not reads[name]:  # memory is for what is still to be read
                        del values[name]
        return {name: values[name].cpu().numpy() for name in self._outputs}

    def _on_device(self, array: Any) -> Value:
        return torch.from_numpy(np.array(array)).to(self._device)


def own_device(kind: str) -> str:
    """For ``cuda`` one of the GPUs, the same for this process each time; else the CPU."""
    return f"cuda:{os.getpid() % torch.cuda.device_count()}" if kind == "cuda" else "cpu"


def _convolution(attributes: Attributes, value: Value, weight: Value, bias: Value | None = None) -> Value:
    return functional.conv2d(
        _padded(attributes, value, 0.0),
        weight,
        bias,
        attributes.get("strides", 1),
        0,
        attributes.get("dilations", 1),
        attributes.get("group", 1),
    )


def _max_pool(attributes: Attributes, value: Value) -> Value:
    if attributes.get("ceil_mode"):
        raise ValueError("ceil_mode is not known here")
    return functional.max_pool2d(
        _padded(attributes, value, -torch.inf), attributes["kernel_shape"], attributes.get("strides", 1)
    )


def _padded(attributes: Attributes, value: Value, what: float) -> Value:
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    return functional.pad(value, (left, right, top, bottom), value=what) if top + left + bottom + right else value


def _gemm(attributes: Attributes, first: Value, second: Value, third: Value | None = None) -> Value:
    first = first.T if attributes.get("transA") else first
    second = second.T if attributes.get("transB") else second
    product = attributes.get("alpha", 1.0) * (first @ second)
    return product if third is None else product + attributes.get("beta", 1.0) * third


def _resize(attributes: Attributes, value: Value, _: Value, scales: Value | None = None, sizes: Any = None) -> Value:
    if attributes.get("mode", b"nearest") != b"nearest":
        raise ValueError("only nearest resizing is known here")
    if sizes is not None:
        return functional.interpolate(value, [int(size) for size in sizes[2:]])
    assert scales is not None
    return functional.interpolate(value, scale_factor=[float(scale) for scale in scales[2:]])


_LIMITS = {torch.int8: (-128, 127), torch.uint8: (0, 255)}


def _quantize(attributes: Attributes, value: Value, scale: Value, zero: Value) -> Value:
    axis = attributes.get("axis", 1)
    steps = torch.round(value / _along(scale, value, axis)) + _along(zero, value, axis)
    return steps.clamp(*_LIMITS[zero.dtype]).to(zero.dtype)


def _dequantize(attributes: Attributes, value: Value, scale: Value, zero: Value | None = None) -> Value:
    axis = attributes.get("axis", 1)
    steps = value.float() if zero is None else value.float() - _along(zero, value, axis).float()
    return steps * _along(scale, value, axis)


def _along(parameter: Value, value: Value, axis: int) -> Value:
    """A scale or zero point so that it broadcasts."""
    if parameter.numel() == 1:
        return parameter.reshape(())
    return parameter.reshape([-1 if place == axis % value.ndim else 1 for place in range(value.ndim)])


def _cast(attributes: Attributes, value: Value) -> Value:
    if attributes["to"] != TensorProto.FLOAT:
        raise ValueError("only casts to float32 are known here")
    return value.float()


OPERATORS: dict[str, Callable[..., Value]] = {
    "Add": lambda _, first, second: first + second,
    "Cast": _cast,
    "Concat": lambda attributes, *values: torch.cat(values, attributes["axis"]),
    "Conv": _convolution,
    "DequantizeLinear": _dequantize,
    "Flatten": lambda attributes, value: value.flatten(1),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda _, value: value.mean((2, 3), keepdim=True),
    "Identity": lambda _, value: value,
    "MatMul": lambda _, first, second: first @ second,
    "MaxPool": _max_pool,
    "QuantizeLinear": _quantize,
    "Relu": lambda _, value: value.relu(),
    "Reshape": lambda _, value, shape: value.reshape([int(size) for size in shape]),
    "Resize": _resize,
}
