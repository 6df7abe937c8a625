"""Reads the nodes of a Q/DQ graph: layers with integer weights, stored activations, scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cmx4trt.backends.hopper.network import Activation
from cmx4trt.backends.hopper.windows import window_of
from cmx4trt.errors import UnsupportedError
from cmx4trt.ir.model import DType, Graph, Node

if TYPE_CHECKING:
    from numpy.typing import NDArray

_RESHAPING = ("Flatten", "Reshape", "Squeeze")


def cannot(node: Node, why: str) -> UnsupportedError:
    """The error for a node that no kernel computes."""
    return UnsupportedError(f"the builder hopper cannot build {node.label()}: {why}")


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """The integer part of a convolution or matrix product: weights int8 [N, R, S, C] or [N, C] with their ``scales``
    [N], ``bias`` [N] in real values, both float64; ``size`` is the output's height and width."""

    node: Node
    source: Activation
    weights: NDArray[Any]
    scales: NDArray[Any]
    bias: NDArray[Any]
    stride: int = 1
    padding: int = 0
    size: tuple[int, int] = (1, 1)

    @property
    def name(self) -> str:
        """The node's name, or that of its output if it has none."""
        return self.node.name or self.node.outputs[0]

    def multiplier(self, output_scale: float) -> NDArray[Any]:
        """Output steps per unit of the integer sum, float64 [N]."""
        product: NDArray[Any] = self.source.scale * self.scales / output_scale
        return product


def float32(node: Node, values: NDArray[Any] | float, margin: float = 1.0) -> NDArray[Any]:
    """Constants of the epilogue, computed in float64 and rounded to float32."""
    import numpy as np

    with np.errstate(over="ignore"):
        rounded = np.asarray(values, np.float64).astype(np.float32)
        finite = np.isfinite(rounded * np.float32(margin)).all()
    if not finite:
        raise cannot(node, "its scales exceed float32's range; calibrate again, or check the model")
    return rounded


class Reader:
    """A graph with the activations stored so far, by name in ``activations``."""

    def __init__(self, graph: Graph) -> None:
        self.activations: dict[str, Activation] = {}
        self._constants = graph.initializers
        self._producers = graph.producers()
        self._stored: dict[str, Activation] = {}  # by the name of the value with the integers

    def producer(self, name: str) -> Node | None:
        """The node that computes a value."""
        return self._producers.get(name)

    def averaged(self, name: str) -> Node | None:
        """The GlobalAveragePool that produces a value, possibly reshaped afterwards."""
        node = self.producer(name)
        while node is not None and node.op_type in _RESHAPING:
            node = self.producer(node.inputs[0])
        return node if node is not None and node.op_type == "GlobalAveragePool" else None

    def layer(self, node: Node) -> Layer:
        """A quantized convolution."""
        if node.op_type != "Conv":
            raise cannot(node, "only convolutions are supported between stored activations")
        source = self.source(node, node.inputs[0], signed=True)
        weights, scales = self.weights(node, 0)
        if weights.ndim != 4 or node.attributes.get("group", 1) != 1 or weights.shape[1] != source.channels:
            raise cannot(node, "groups are not supported")
        window = window_of(node, list(weights.shape[2:]), (source.height, source.width))
        if window is None or not window.symmetric:
            raise cannot(
                node, "windows must be square, without dilation, with equal strides and the same padding on all sides"
            )
        ordered = weights.transpose(0, 2, 3, 1).copy()
        bias = self.bias(node, len(scales))
        return Layer(node, source, ordered, scales, bias, window.stride, window.padding, window.size)

    def source(self, reader: Node, name: str, signed: bool = False) -> Activation:
        """The stored activation that ``reader`` reads; ``signed``: it may be the network's input."""
        node = self._producers.get(name)
        if node is None or node.op_type != "DequantizeLinear" or node.inputs[0] not in self._stored:
            raise cannot(
                reader,
                f"its input '{name}' is not quantized, and its kernels compute in INT8 only; calibrate with images or give a "
                "cache that covers every activation, and omit keep_fp16",
            )
        activation = self._stored[node.inputs[0]]
        if self.scale(node) != activation.scale:
            raise cannot(node, "its scale differs from that of its QuantizeLinear")
        if activation.signed and not signed:
            raise cannot(reader, f"it reads '{name}', the network's input, which only convolutions may")
        return activation

    def weights(self, node: Node, axis: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """int8 weights and their scales, float64 [N], one per output channel, which is ``axis``."""
        import numpy as np

        source = self._producers.get(node.inputs[1])
        constants = [self._constants.get(name) for name in source.inputs] if source is not None else []
        if source is None or source.op_type != "DequantizeLinear" or len(constants) != 3 or None in constants:
            raise cannot(node, "its weights are not quantized; omit keep_fp16")
        weights, scales, zeros = (tensor.numpy() for tensor in constants if tensor is not None)
        wanted = source.attributes.get("axis", 1) % weights.ndim == axis and scales.shape == (weights.shape[axis],)  # type: ignore[operator]
        if weights.dtype != np.int8 or not wanted or zeros.any():
            raise cannot(node, "its weights must be int8 with zero point 0 and one scale per output channel")
        return weights, scales.astype(np.float64)

    def bias(self, node: Node, size: int) -> NDArray[Any]:
        """The bias of a Conv or Gemm, float64 [N]; zeros if it has none."""
        import numpy as np

        if len(node.inputs) < 3 or not node.inputs[2]:
            return np.zeros(size)
        tensor = self._constants.get(node.inputs[2])
        if tensor is None or tensor.dtype is not DType.FLOAT or tensor.size != size:
            raise cannot(node, "its bias must be a float32 constant, one value per output channel")
        return tensor.numpy().reshape(-1).astype(np.float64)

    def scale(self, node: Node) -> float:
        """The scale of an activation's QuantizeLinear or DequantizeLinear."""
        tensor = self._constants.get(node.inputs[1])
        if tensor is None or tensor.dtype is not DType.FLOAT or tensor.size != 1:
            raise cannot(node, "its scale must be one float32 constant")
        scale = float(tensor.numpy().reshape(-1)[0])
        if not 0 < scale < float("inf"):
            raise cannot(node, f"its scale is {scale:g}, expected a positive number")
        return scale

    def store(self, node: Node, activation: Activation) -> None:
        """Record how a QuantizeLinear (or, for an int8 input, its DequantizeLinear) defines the integers."""
        zero = self._constants.get(node.inputs[2]) if len(node.inputs) > 2 else None
        wanted = DType.INT8 if activation.signed else DType.UINT8
        if zero is None or zero.dtype is not wanted or zero.size != 1 or zero.numpy().any():
            raise cannot(node, f"'{activation.name}' must be {wanted.name.lower()} with zero point 0")
        self.activations[activation.name] = activation
        self._stored[node.outputs[0] if node.op_type == "QuantizeLinear" else node.inputs[0]] = activation
