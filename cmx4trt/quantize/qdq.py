"""Writes a placement into a graph: QuantizeLinear/DequantizeLinear on activations, int8 constants behind DequantizeLinear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cmx4trt.backends.flavor import TENSORRT, QuantizationFlavor
from cmx4trt.ir.int8 import INT8_MAX, UINT8_MAX
from cmx4trt.ir.model import DType, Model, Node, Tensor, fresh_name
from cmx4trt.quantize.bias import kernel_error, mean_error, mean_source
from cmx4trt.quantize.placement import Placement, Weight

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALLEST_SCALE = 2.0**-24
"""The smallest positive float16: an all-zero channel still gets a scale that is no zero when the rest becomes float16."""

DEAD_SCALE = 1.0
"""Scale of an activation that was zero on every image: any scale represents it exactly."""


def storable_scale(scale: NDArray[Any], dtype: DType = DType.FLOAT16) -> NDArray[Any]:
    """``scale`` as a float32 array of values of ``dtype``, at least SMALLEST_SCALE; float16 values are rounded up.

    The scales are cast to ``dtype`` with the rest of the network. Integers computed with a scale that float16 holds exactly
    stay right; rounding up keeps the largest magnitude at 127.
    """
    import numpy as np

    exact = np.maximum(np.asarray(scale, np.float64), SMALLEST_SCALE)
    if dtype is DType.FLOAT:
        return exact.astype(np.float32)
    half = exact.astype(np.float16)
    half = np.where(half.astype(np.float64) < exact, np.nextafter(half, np.float16(np.inf)), half)
    return half.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Inserted:
    """What ``insert_qdq`` did: Q/DQ pairs, int8 constants, corrected biases, and the scale of an int8 input."""

    pairs: int
    weights: int
    biases: int
    input_scale: float | None


def insert_qdq(
    model: Model,
    placement: Placement,
    scales: Mapping[str, float],
    means: Mapping[str, NDArray[Any]] | None = None,
    int8_input: bool = False,
    flavor: QuantizationFlavor = TENSORRT,
    weight_scales: Mapping[str, NDArray[Any]] | None = None,
) -> Inserted:
    """Edit ``model`` so that ``placement`` holds.

    ``scales`` gives what one step of every activation's int8 is worth (127 of them are its magnitude, whatever type it is
    stored in); ``means`` the channel means [C] of layers' inputs, by which their biases are corrected. With ``int8_input``
    the graph's input is int8 itself: whoever fills it divides by the returned scale, rounds to nearest even and clips to
    -128 .. 127. ``weight_scales``: of constants whose scales, [M] or [1], are given; the others' come from their values.
    Requires opset 19.
    """
    return _Inserter(model, placement, scales, means or {}, flavor.rest, weight_scales or {}).run(int8_input)


@dataclass(frozen=True, slots=True, eq=False)
class _Constant:
    """A weight as int8: the value its readers take, and (where means are known) its summed rounding error."""

    result: str
    error: NDArray[Any] | None


class _Inserter:
    def __init__(
        self,
        model: Model,
        placement: Placement,
        scales: Mapping[str, float],
        means: Mapping[str, NDArray[Any]],
        rest: DType,
        weight_scales: Mapping[str, NDArray[Any]],
    ) -> None:
        self._graph = model.graph
        self._placement = placement
        self._scales = scales
        self._means = means
        self._rest = rest
        self._weight_scales = weight_scales
        self._used = self._graph.names()
        self._new_nodes: dict[str, list[Node]] = {"": []}
        self._pairs: dict[str, str] = {}
        self._constants: dict[tuple[str, int], _Constant] = {}

    def run(self, int8_input: bool) -> Inserted:
        biases = 0
        for weight in self._placement.weights:
            constant = self._int8_constant(weight)
            means = self._means.get(mean_source(self._placement, weight.node) or "")
            weight.node.inputs[weight.index] = constant.result
            if constant.error is not None and means is not None:
                biases += self._correct_bias(weight.node, mean_error(weight.node, constant.error, means))
        for edge in self._placement.edges:
            edge.node.inputs[edge.index] = self._dequantized(edge.tensor)
        input_scale = self._make_input_int8() if int8_input else None
        self._splice()
        self._graph.prune()
        return Inserted(len(self._pairs), len(self._constants), biases, input_scale)

    def _dequantized(self, tensor: str) -> str:
        """The activation ``tensor`` behind a Q/DQ pair, one for all its readers."""
        if tensor not in self._pairs:
            import numpy as np

            unsigned = tensor in self._placement.unsigned
            step = self._scales[tensor] * (INT8_MAX / UINT8_MAX if unsigned else 1) or DEAD_SCALE
            scale = self._constant(f"{tensor}_scale", storable_scale(np.array(step), self._rest))
            zero = self._constant(f"{tensor}_zero_point", np.array(0, np.uint8 if unsigned else np.int8))
            quantized = fresh_name(f"{tensor}_quantized", self._used)
            result = fresh_name(f"{tensor}_dequantized", self._used)
            self._new_nodes[tensor] = [
                Node("QuantizeLinear", [tensor, scale, zero], [quantized], {}, quantized),
                Node("DequantizeLinear", [quantized, scale, zero], [result], {}, result),
            ]
            self._pairs[tensor] = result
        return self._pairs[tensor]

    def _int8_constant(self, weight: Weight) -> _Constant:
        key = (weight.tensor, weight.axis)
        if key not in self._constants:
            self._constants[key] = self._quantized_constant(weight)
        return self._constants[key]

    def _quantized_constant(self, weight: Weight) -> _Constant:
        import numpy as np

        name, axis = weight.tensor, weight.axis
        values = self._graph.initializers[name].numpy()
        scale = storable_scale(self._weight_scale(name, axis), self._rest)
        steps = scale.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
        integers = np.clip(np.rint(values / steps), -INT8_MAX, INT8_MAX).astype(np.int8)
        result = fresh_name(f"{name}_dequantized", self._used)
        inputs = [
            self._constant(f"{name}_int8", integers),
            self._constant(f"{name}_scale", scale),
            self._constant(f"{name}_zero_point", np.zeros(len(scale), np.int8)),
        ]
        self._new_nodes[""].append(Node("DequantizeLinear", inputs, [result], {"axis": axis}, result))
        return _Constant(result, kernel_error(values, integers * steps, axis) if self._means else None)

    def _weight_scale(self, name: str, axis: int) -> NDArray[Any]:
        """What one step is worth in each output channel [M]."""
        import numpy as np

        values = self._graph.initializers[name].numpy()
        given = self._weight_scales.get(name)
        if given is not None and given.size in (1, values.shape[axis]):
            return np.broadcast_to(given.reshape(-1), values.shape[axis : axis + 1])
        others = tuple(i for i in range(values.ndim) if i != axis)
        largest: NDArray[Any] = np.maximum(values.max(axis=others), -values.min(axis=others))
        return largest / INT8_MAX

    def _correct_bias(self, node: Node, offset: NDArray[Any]) -> bool:
        """Subtract ``offset`` [M] from the bias; a computed bias is left alone (False)."""
        old = node.inputs[2] if len(node.inputs) > 2 else ""
        if old and old not in self._graph.initializers:
            return False
        bias = self._graph.initializers[old].numpy() if old else 0.0
        node.inputs[2:] = [self._constant(f"{old or node.outputs[0]}_corrected", bias - offset)]
        return True

    def _make_input_int8(self) -> float:
        """Drop the input's QuantizeLinear; every reader of the float input reads the dequantized one. Returns the scale."""
        info = self._graph.inputs[0]
        result = self._dequantized(info.name)
        quantize, dequantize = self._new_nodes[info.name]
        for node in self._graph.nodes:
            node.inputs = [result if value == info.name else value for value in node.inputs]
        dequantize.inputs[0] = info.name
        self._new_nodes[info.name] = [dequantize]
        info.dtype = DType.INT8
        return float(self._graph.initializers[quantize.inputs[1]].numpy())

    def _splice(self) -> None:
        """Put the new nodes in: those on weights and inputs first, the others behind the node whose output they read."""
        nodes = self._new_nodes.pop("")
        for info in self._graph.inputs:
            nodes += self._new_nodes.pop(info.name, [])
        for node in self._graph.nodes:
            nodes.append(node)
            for name in node.outputs:
                nodes += self._new_nodes.pop(name, [])
        self._graph.nodes = nodes

    def _constant(self, wanted: str, value: NDArray[Any]) -> str:
        name = fresh_name(wanted, self._used)
        self._graph.initializers[name] = Tensor.from_numpy(name, value)
        return name
