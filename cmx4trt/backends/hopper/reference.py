"""What every operation computes, bit for bit: the specification that kernels must match, on any CPU.

Integer sums are exact. Everything after them is float32 in a fixed order, each step rounded to nearest even; ``fma`` rounds
once. With sum s of a convolution and output steps y:

    plain:       y = fma(float(s), multiplier, bias)
    residual x:  y = fma(float(s), multiplier, fma(128 + x/256, 256 * r, residual_bias))
    projection:  y = fma(float(s), multiplier, fma(float(sum of the projection), its multiplier, bias))
    average:     y = float(s) * multiplier
    classifier:  logit = fma(float(s), multiplier, bias); class = first index of the largest logit

and a stored activation is y rounded to the nearest integer, ties to even, clipped to 0 .. 255.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

from cmx4trt.backends.hopper.arithmetic import fma32, to_int8, to_uint8
from cmx4trt.backends.hopper.network import (
    AveragePool,
    Classifier,
    Convolution,
    MaxPool,
    Network,
    Operation,
    Projection,
    Residual,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PIXELS = 4096
"""Number of input pixels of a convolution that are processed at a time: about ten MB."""
EXACT_TERMS = 512
"""The sum of this many products of a byte and an int8 is below 2^24, exact in float32; longer sums are computed in float64."""


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """Logits, float32 [N, classes], and classes, int32 [N]; ``activations``, if kept, [N, H, W, C] by name."""

    logits: NDArray[np.float32]
    classes: NDArray[np.int32]
    activations: Mapping[str, NDArray[Any]] = field(default_factory=dict)


def run(network: Network, images: NDArray[Any], keep: bool = False) -> Outputs:
    """The outputs for ``images`` [N, C, H, W], floating-point or int8; ``keep`` every activation, including the input.

    Otherwise each is freed after its last reader.
    """
    source = network.input
    values: dict[str, NDArray[Any]] = {source.name: quantize_input(images, source.scale)}
    last = {name: index for index, op in enumerate(network.operations) for name in inputs_of(op)}
    for index, operation in enumerate(network.operations):
        result = run_operation(network, operation, values)
        if isinstance(operation, Classifier):
            return Outputs(result, result.argmax(axis=1).astype("int32"), values if keep else {})
        values[operation.output] = result
        if not keep:
            values = {name: value for name, value in values.items() if last.get(name, -1) > index}
    raise ValueError("the network has no classifier")


def quantize_input(images: NDArray[Any], scale: float) -> NDArray[np.int8]:
    """[N, C, H, W] to int8 [N, H, W, C], like ONNX's QuantizeLinear: a float32 quotient, rounded to even, clipped."""
    import numpy as np

    if images.dtype != np.int8:
        images = to_int8(images.astype(np.float32) / np.float32(scale))
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def inputs_of(operation: Operation) -> tuple[str, ...]:
    """Names of the activations that an operation reads."""
    addend = operation.addend if isinstance(operation, Convolution) else None
    return (operation.input,) if addend is None else (operation.input, addend.input)


def run_operation(network: Network, operation: Operation, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """The result of ``operation`` for ``inputs`` (activations [N, H, W, C] by name): uint8 [N, H, W, C], or the logits."""
    import numpy as np

    source = inputs[operation.input]
    if isinstance(operation, Convolution):
        addend = inputs[operation.addend.input] if operation.addend else None
        return _convolution(operation, source, addend)
    if isinstance(operation, MaxPool):
        return _max_pool(operation, source)
    if isinstance(operation, AveragePool):
        total = source.sum(axis=(1, 2), keepdims=True, dtype=np.int32)
        return to_uint8(total.astype(np.float32) * np.float32(operation.multiplier))
    total = source.reshape(len(source), -1).astype(np.float64) @ operation.weights.T.astype(np.float64)
    return fma32(total.astype(np.float32), operation.multiplier, operation.bias)


def _convolution(operation: Convolution, source: NDArray[Any], addend: NDArray[Any] | None) -> NDArray[np.uint8]:
    """Processes a few images at a time, so that the sums stay in the cache."""
    import numpy as np

    main = _Sums(operation.weights, operation.stride, operation.padding)
    added, offset = _addend(operation), operation.bias
    parts = []
    step = max(PIXELS // (source.shape[1] * source.shape[2]), 1)
    for start in range(0, len(source), step):
        part = slice(start, start + step)
        if addend is not None:
            offset = added(addend[part])
        parts.append(to_uint8(fma32(main(source[part]), operation.multiplier, offset)))
    return np.concatenate(parts)


def _addend(operation: Convolution) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    """The addend of a convolution's own product."""
    import numpy as np

    addend = operation.addend
    if isinstance(addend, Projection):
        sums = _Sums(addend.weights, addend.stride, 0)
        multiplier = addend.multiplier
        return lambda values: fma32(sums(values), multiplier, operation.bias)
    if isinstance(addend, Residual):
        factor, bias = np.float32(256 * addend.multiplier), operation.residual_bias()
        # 128 + x/256 is the byte x inside a float32 value, and therefore exact.
        return lambda values: fma32(np.float32(128) + values.astype(np.float32) / np.float32(256), factor, bias)
    return lambda values: operation.bias


class _Sums:
    """The integer sums of a convolution as float32 [N, H, W, M], each computed exactly and then rounded to that type."""

    def __init__(self, weights: NDArray[Any], stride: int, padding: int) -> None:
        import numpy as np

        self._kernel, self._stride, self._padding = weights.shape[1], stride, padding
        matrix = np.ascontiguousarray(weights.reshape(len(weights), -1).T, np.float32)
        self._matrices = [matrix[start : start + EXACT_TERMS] for start in range(0, len(matrix), EXACT_TERMS)]

    def __call__(self, source: NDArray[Any]) -> NDArray[np.float32]:
        import numpy as np

        pixels = self._pixels(source)
        flat = np.ascontiguousarray(pixels, np.float32).reshape(-1, prod(pixels.shape[3:]))
        first, *others = self._matrices
        total = flat[:, : len(first)] @ first
        if others:
            total = total.astype(np.float64)
        for index, matrix in enumerate(others, start=1):
            total += flat[:, index * EXACT_TERMS : index * EXACT_TERMS + len(matrix)] @ matrix
        result: NDArray[np.float32] = total.astype(np.float32, copy=False).reshape(*pixels.shape[:3], -1)
        return result

    def _pixels(self, source: NDArray[Any]) -> NDArray[Any]:
        """The window of each output pixel: [N, H, W, C], or [N, H, W, R, S, C]."""
        import numpy as np

        kernel, stride, padding = self._kernel, self._stride, self._padding
        if kernel == 1:
            return source[:, ::stride, ::stride]
        padded = np.pad(source, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(1, 2))
        return windows[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)


def _max_pool(operation: MaxPool, source: NDArray[Any]) -> NDArray[Any]:
    """No value is below 0, so the outside is padded with zeros."""
    import numpy as np

    before = operation.padding
    padded = np.pad(source, ((0, 0), (before, 2 - before), (before, 2 - before), (0, 0)))
    rows = [padded[:, row : row + source.shape[1] : 2] for row in range(3)]
    highest = np.maximum(np.maximum(rows[0], rows[1]), rows[2])
    columns = [highest[:, :, column : column + source.shape[2] : 2] for column in range(3)]
    result: NDArray[Any] = np.maximum(np.maximum(columns[0], columns[1]), columns[2])
    return result
