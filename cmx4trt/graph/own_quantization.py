"""A file that is quantized already (Q/DQ pairs of Model Optimizer or ONNX Runtime): its float network and its scales."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cmx4trt.base.frozen import Frozen, replace
from cmx4trt.errors import ModelError
from cmx4trt.ir.int8 import INT8_MAX, INT8_MIN, UINT8_MAX
from cmx4trt.ir.model import DType, Graph, Node, Tensor, fresh_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
_LIMITS = {DType.INT8: (INT8_MIN, INT8_MAX), DType.UINT8: (0, UINT8_MAX)}
_LAYERS = ("Conv", "Gemm", "MatMul")
_SIGNED_RESULTS = ("Conv", "Gemm", "MatMul", "Add", "BatchNormalization")
"""Operators that give negative numbers, too."""


class OwnQuantization(Frozen):
    """What a quantized file says.

    - ``scales``: activation -> what one step of a symmetric int8 is worth that covers the file's range
    - ``weights``: constant -> scales [M] or [1] of a symmetric int8 weight
    - ``float_layers``: layers, by name or output, that read no int8
    - ``converted``: how many activations the file stores in another way than as symmetric int8
    """

    scales: Mapping[str, float]
    weights: Mapping[str, NDArray[Any]]
    float_layers: frozenset[str]
    converted: int = 0

    def renamed(self, names: Mapping[str, str]) -> OwnQuantization:
        """The same in a graph that calls values and layers by other ``names``: old -> new."""
        scales = {names.get(name, name): scale for name, scale in self.scales.items()}
        weights = {names.get(name, name): steps for name, steps in self.weights.items()}
        layers = frozenset(names.get(name, name) for name in self.float_layers)
        return replace(self, scales=scales, weights=weights, float_layers=layers)


def take_apart(graph: Graph) -> OwnQuantization | None:
    """Remove all Q/DQ pairs from ``graph``; None where there are none. Raises ModelError on what has no int8 scale.

    Requires: constants are initializers, floats are float32. Ensures: weights are float32 constants with the values that they had
    behind DequantizeLinear; a pair whose smallest value is zero, behind an operator that gives negative numbers, was a Relu
    (ONNX Runtime leaves the Relu out there) and is one again.
    """
    if not any(node.op_type in (QUANTIZE, DEQUANTIZE) for node in graph.nodes):
        return None
    return _Reader(graph).run()


class _Reader:
    __slots__ = ("converted", "graph", "relus", "scales", "weights")

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.scales: dict[str, float] = {}
        self.weights: dict[str, Any] = {}
        self.relus: dict[str, str] = {}
        self.converted = 0

    def run(self) -> OwnQuantization:
        producers = self.graph.producers()
        layers = [node for node in self.graph.nodes if node.op_type in _LAYERS]
        floating = frozenset(n.name or n.outputs[0] for n in layers if not _reads_int8(n, producers))
        used = self.graph.names()
        nodes: list[Node] = []
        for node in self.graph.nodes:
            if node.op_type == QUANTIZE and node.inputs[0] in self.graph.initializers:
                self._quantize_constant(node)
            elif node.op_type == DEQUANTIZE and node.inputs[0] in self.graph.initializers:
                self._dequantize_constant(node)
            elif node.op_type == DEQUANTIZE:
                nodes += self._dequantize(node, producers, used)
            elif node.op_type != QUANTIZE:
                nodes.append(node)
        self.graph.nodes = nodes
        self.graph.prune()
        return OwnQuantization(self.scales, self.weights, floating, self.converted)

    def _dequantize(self, node: Node, producers: Mapping[str, Node], used: set[str]) -> list[Node]:
        """The readers of a pair read its activation; the scale is kept. Returns the Relu that the pair was, if any."""
        quantize = producers.get(node.inputs[0])
        if quantize is None or quantize.op_type != QUANTIZE:
            raise ModelError(
                f"{node.label()} reads no QuantizeLinear and no constant; give a model whose pairs are whole"
            )
        scale, zero, dtype = self._parameters(quantize)
        if scale.size != 1:
            raise ModelError(
                f"{quantize.label()} gives an activation {scale.size} scales, expected one; give the float model"
            )
        tensor, (low, high) = quantize.inputs[0], _LIMITS[dtype]
        zero_point, step = int(zero.reshape(-1)[0]), float(scale.reshape(-1)[0])
        symmetric = dtype is DType.INT8 and zero_point == 0
        largest = INT8_MAX * step if symmetric else max(zero_point - low, high - zero_point) * step
        self.converted += tensor not in self.scales and not symmetric
        result: list[Node] = []
        before = producers.get(tensor)
        if zero_point == low and before is not None and before.op_type in _SIGNED_RESULTS:
            if (
                tensor not in self.relus
            ):  # of several pairs behind one operator, each for one reader, all are the same Relu
                self.relus[tensor] = name = fresh_name(f"{tensor}_relu", used)
                result = [Node("Relu", [tensor], [name], {}, name)]
            tensor = self.relus[tensor]
        self.scales[tensor] = max(self.scales.get(tensor, 0.0), largest / INT8_MAX)
        self.graph.rename_reads(node.outputs[0], tensor)
        return result

    def _quantize_constant(self, node: Node) -> None:
        import numpy as np

        scale, zero, dtype = self._parameters(node)
        values = self.graph.initializers[node.inputs[0]].numpy()
        axis = _axis(node)
        steps = _along(scale, axis, values.ndim)
        integers = np.clip(np.rint(values / steps) + _along(zero, axis, values.ndim), *_LIMITS[dtype])
        self._keep(node.outputs[0], integers.astype(dtype.numpy_name))

    def _dequantize_constant(self, node: Node) -> None:
        import numpy as np

        scale, zero, _ = self._parameters(node, (*_LIMITS, DType.INT32))
        integers, axis = self.graph.initializers[node.inputs[0]].numpy(), _axis(node)
        steps = _along(scale, axis, integers.ndim)
        shifted = integers.astype(np.float64) - _along(zero, axis, integers.ndim)
        result = node.outputs[0]
        self._keep(result, (shifted * steps).astype(np.float32))
        if integers.dtype == np.int8 and not zero.any():
            self.weights[result] = scale

    def _keep(self, name: str, values: NDArray[Any]) -> None:
        self.graph.initializers[name] = Tensor.from_numpy(name, values)

    def _parameters(
        self, node: Node, accepted: tuple[DType, ...] = tuple(_LIMITS)
    ) -> tuple[NDArray[Any], NDArray[Any], DType]:
        """Scale, zero point and the integers' type of a QuantizeLinear or DequantizeLinear. Raises ModelError."""
        import numpy as np

        constants = self.graph.initializers
        scale = constants.get(node.inputs[1])
        zero = constants.get(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
        if scale is None or (zero is None and len(node.inputs) > 2 and node.inputs[2]):
            raise ModelError(
                f"{node.label()} has a computed scale or zero point, expected constants; give the float model"
            )
        stored = constants.get(node.inputs[0])
        dtype = (
            zero.dtype
            if zero is not None
            else stored.dtype
            if stored is not None and node.op_type == DEQUANTIZE
            else DType.UINT8
        )
        values = scale.numpy().astype(np.float64)
        if dtype not in accepted or node.attributes.get("block_size", 0):
            raise ModelError(
                f"{node.label()} has {dtype.name.lower()} or blocks of scales, expected int8 or uint8; give the float model"
            )
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise ModelError(f"{node.label()} has a scale that is not a positive number; quantize the model again")
        points = np.zeros(1, np.int64) if zero is None else zero.numpy().astype(np.int64)
        return values, points, dtype


def _reads_int8(node: Node, producers: Mapping[str, Node]) -> bool:
    before = producers.get(node.inputs[0])
    return before is not None and before.op_type == DEQUANTIZE


def _axis(node: Node) -> int:
    axis = node.attributes.get("axis", 1)
    assert isinstance(axis, int)
    return axis


def _along(values: NDArray[Any], axis: int, rank: int) -> NDArray[Any]:
    """One value for all elements, or one for each index along ``axis``, so that it broadcasts to an array of ``rank``."""
    if values.size == 1:
        return values.reshape(())
    return values.reshape([-1 if index == axis % rank else 1 for index in range(rank)])
