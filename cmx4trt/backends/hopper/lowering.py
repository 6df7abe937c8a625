"""Lowers a prepared Q/DQ graph to the operations of ``network.py``; what cannot be lowered is one sentence that names the node.

Requires ``FLAVOUR``'s quantization. A value is followed back from each QuantizeLinear to the DequantizeLinear nodes before
it: what lies between is one operation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cmx4trt.backends.hopper.network import (
    Activation,
    AveragePool,
    Classifier,
    Convolution,
    MaxPool,
    Network,
    Operation,
    Projection,
    Residual,
)
from cmx4trt.backends.hopper.windows import window_of
from cmx4trt.errors import UnsupportedError
from cmx4trt.flavour import QuantizationFlavour
from cmx4trt.graph.classifier import CLASS, LOGITS
from cmx4trt.ir.model import DType, Graph, Model, Node

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLAVOUR = QuantizationFlavour(rest=DType.FLOAT, unsigned=True, stored_shortcuts=False, classifier=True)
"""uint8 behind Relu, whose saturation is the Relu; both convolutions of a block that changes its shape are added before rounding;
the last matrix product is in INT8; nothing is float16."""

_RESHAPING = ("Flatten", "Reshape", "Squeeze")


def lower(model: Model) -> Network:
    """The operations of a graph that was quantized with ``FLAVOUR``. Raises UnsupportedError, naming the node."""
    return _Lowering(model.graph).run()


def _cannot(node: Node, why: str) -> UnsupportedError:
    return UnsupportedError(f"the builder hopper cannot build {node.label()}: {why}")


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """A convolution (or matrix product) between its quantized input and the sum in float."""

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
        return self.node.name or self.node.outputs[0]

    def multiplier(self, output_scale: float) -> NDArray[Any]:
        """Output steps for each unit of the integer sum, float64 [N]."""
        product: NDArray[Any] = self.source.scale * self.scales / output_scale
        return product


@dataclass(slots=True, eq=False)
class _Lowering:
    graph: Graph
    producers: dict[str, Node] = field(init=False)
    activations: dict[str, Activation] = field(default_factory=dict)
    stored: dict[str, Activation] = field(default_factory=dict)
    """By the name of the value that holds the integers."""
    operations: list[Operation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.producers = self.graph.producers()

    def run(self) -> Network:
        for node in self.graph.nodes:
            if node.op_type == "QuantizeLinear":
                self._lower_stored(node)
            elif node.op_type == "DequantizeLinear" and node.inputs[0] == self.graph.inputs[0].name:
                self._add_input(node, node.inputs[0])
        classifier = self._classifier()
        image = self.activations[self.graph.inputs[0].name]
        return Network(image, (*self.operations, classifier), self.activations)

    def _lower_stored(self, node: Node) -> None:
        """Everything between the stored inputs and this QuantizeLinear as one operation."""
        tensor = node.inputs[0]
        producer = self._producer(tensor)
        if producer is None or producer.op_type == "Cast":
            self._add_input(node, tensor)
        elif producer.op_type == "Relu":
            self._lower_relu(node, producer)
        elif producer.op_type == "MaxPool":
            self._lower_max_pool(node, producer)
        elif producer.op_type == "GlobalAveragePool":
            self._lower_average_pool(node, producer)
        else:
            raise _cannot(producer, "its result is quantized, which is supported for Relu and pooling only")

    def _producer(self, name: str) -> Node | None:
        """The node that computes a value, whatever shape it is given afterwards."""
        node = self.producers.get(name)
        while node is not None and node.op_type in _RESHAPING:
            node = self.producers.get(node.inputs[0])
        return node

    def _add_input(self, node: Node, tensor: str) -> None:
        """The network's input, quantized here or by whoever feeds it."""
        image = self.graph.inputs[0]
        producer = self.producers.get(tensor)
        if tensor != image.name and (producer is None or producer.inputs[0] != image.name):
            raise _cannot(node, f"'{tensor}' is no result of a layer")
        dims = [size for size in (image.dims or ())[1:] if isinstance(size, int)]
        if len(dims) != 3:
            raise _cannot(node, f"the input '{image.name}' has no fixed channels, height and width")
        self._store(node, Activation(image.name, dims[1], dims[2], dims[0], self._scale(node), signed=True))

    def _lower_relu(self, node: Node, relu: Node) -> None:
        """A convolution, perhaps with an addend."""
        tensor, scale = node.inputs[0], self._scale(node)
        below = self.producers.get(relu.inputs[0])
        if below is not None and below.op_type == "Add":
            layer, other = self._addends(below)
        elif below is not None:
            layer, other = self._layer(below), None
        else:
            raise _cannot(relu, "it reads no convolution")
        addend: Residual | Projection | None = None
        bias = layer.bias
        if isinstance(other, _Layer):
            bias = bias + other.bias
            multiplier = self._float32(other.node, other.multiplier(scale))
            addend = Projection(other.name, other.source.name, other.weights, multiplier, other.stride)
        elif other is not None:
            # Up to 65536 times it must be finite: see Convolution.residual_bias.
            factor = self._float32(below or relu, other.scale / scale, margin=2.0**16)
            addend = Residual(other.name, float(factor))
        self.operations.append(
            Convolution(
                name=layer.name,
                input=layer.source.name,
                output=tensor,
                weights=layer.weights,
                multiplier=self._float32(layer.node, layer.multiplier(scale)),
                bias=self._float32(layer.node, bias / scale),
                stride=layer.stride,
                padding=layer.padding,
                addend=addend,
            )
        )
        self._store(node, Activation(tensor, *layer.size, len(layer.weights), scale))

    def _addends(self, add: Node) -> tuple[_Layer, _Layer | Activation]:
        """The convolution of an addition whose result it is stored with, and what is added to it."""
        found = [self._addend(add, name) for name in add.inputs]
        layers = [item for item in found if isinstance(item, _Layer)]
        if not layers:
            raise _cannot(add, "neither of its inputs is a convolution")
        order = list(self.activations)
        layers.sort(key=lambda layer: order.index(layer.source.name))
        main = layers[-1]
        other = layers[0] if len(layers) == 2 else next(item for item in found if isinstance(item, Activation))
        if isinstance(other, _Layer):
            shape, size = other.weights.shape, other.size
            if shape[1:3] != (1, 1) or other.padding:
                raise _cannot(other.node, "a shortcut must be a 1x1 convolution without padding")
        else:
            shape, size = (other.channels,), (other.height, other.width)
        if (shape[0], *size) != (len(main.weights), *main.size):
            raise _cannot(add, "its inputs have different shapes")
        return main, other

    def _addend(self, add: Node, name: str) -> _Layer | Activation:
        producer = self.producers.get(name)
        if producer is not None and producer.op_type == "Conv":
            return self._layer(producer)
        return self._source(add, name)

    def _lower_max_pool(self, node: Node, pool: Node) -> None:
        source, scale = self._source(pool, pool.inputs[0]), self._scale(node)
        if scale != source.scale:
            raise _cannot(pool, f"its input has the scale {source.scale:g}, its output {scale:g}; they must be equal")
        window = window_of(pool, pool.ints("kernel_shape", []), (source.height, source.width))
        if window is None or (window.kernel, window.stride) != (3, 2) or window.padding > 1:
            raise _cannot(pool, "only windows of 3x3 with stride 2 and padding 0 or 1 are supported")
        if window.size != ((source.height + 1) // 2, (source.width + 1) // 2):
            raise _cannot(pool, f"its output is {window.size[0]}x{window.size[1]}, expected half of its input")
        self.operations.append(MaxPool(pool.name or node.inputs[0], source.name, node.inputs[0], window.padding))
        self._store(node, Activation(node.inputs[0], *window.size, source.channels, scale))

    def _lower_average_pool(self, node: Node, pool: Node) -> None:
        source, scale = self._source(pool, pool.inputs[0]), self._scale(node)
        factor = self._float32(pool, source.scale / (source.height * source.width * scale))
        self.operations.append(
            AveragePool(pool.name or node.inputs[0], source.name, node.inputs[0], float(factor)),
        )
        self._store(node, Activation(node.inputs[0], 1, 1, source.channels, scale))

    def _classifier(self) -> Classifier:
        """What writes the logits; the class is the largest one's index, so ArgMax and Cast need no reading."""
        names = [info.name for info in self.graph.outputs]
        if not {LOGITS} <= set(names) <= {LOGITS, CLASS}:
            raise UnsupportedError(f"the builder hopper writes {LOGITS} and {CLASS}, the graph has {', '.join(names)}")
        node = self.producers[LOGITS]
        if node.op_type == "Cast":
            node = self.producers[node.inputs[0]]
        plain = all(node.attributes.get(key, 1.0) == 1.0 for key in ("alpha", "beta"))
        if node.op_type != "Gemm" or node.attributes.get("transA", 0) or not plain:
            raise _cannot(node, "logits must come from a plain Gemm")
        source = self._source(node, node.inputs[0])
        axis = 0 if node.attributes.get("transB", 0) else 1
        weights, scales = self._weights(node, axis)
        layer = _Layer(node, source, weights if axis == 0 else weights.T.copy(), scales, self._bias(node, len(scales)))
        if (source.height, source.width, source.channels) != (1, 1, layer.weights.shape[1]):
            raise _cannot(node, f"it reads {layer.weights.shape[1]} values, its input has another shape")
        multiplier, bias = self._float32(node, layer.multiplier(1.0)), self._float32(node, layer.bias)
        return Classifier(layer.name, source.name, layer.weights, multiplier, bias)

    def _layer(self, node: Node) -> _Layer:
        if node.op_type != "Conv":
            raise _cannot(node, "only convolutions may stand between stored activations")
        source = self._source(node, node.inputs[0])
        weights, scales = self._weights(node, 0)
        if weights.ndim != 4 or node.attributes.get("group", 1) != 1 or weights.shape[1] != source.channels:
            raise _cannot(node, "groups are not supported")
        window = window_of(node, list(weights.shape[2:]), (source.height, source.width))
        if window is None or not window.symmetric:
            raise _cannot(
                node, "windows must be square, without dilation, with equal strides and the same padding on all sides"
            )
        ordered = weights.transpose(0, 2, 3, 1).copy()
        bias = self._bias(node, len(scales))
        return _Layer(node, source, ordered, scales, bias, window.stride, window.padding, window.size)

    def _source(self, reader: Node, name: str) -> Activation:
        """The stored activation that ``reader`` reads."""
        node = self.producers.get(name)
        if node is None or node.op_type != "DequantizeLinear" or node.inputs[0] not in self.stored:
            raise _cannot(
                reader,
                f"its input '{name}' is not quantized, and its kernels compute in INT8 only; calibrate with images or give a "
                "cache that covers every activation, and leave keep_fp16 out",
            )
        activation = self.stored[node.inputs[0]]
        if self._scale(node) != activation.scale:
            raise _cannot(node, "its scale differs from that of its QuantizeLinear")
        return activation

    def _weights(self, node: Node, axis: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """int8 weights and their scales, float64 [N], one for each output channel, which lies along ``axis``."""
        import numpy as np

        source = self.producers.get(node.inputs[1])
        constants = [self.graph.initializers.get(name) for name in source.inputs] if source is not None else []
        if source is None or source.op_type != "DequantizeLinear" or len(constants) != 3 or None in constants:
            raise _cannot(node, "its weights are not quantized; leave keep_fp16 out")
        weights, scales, zeros = (tensor.numpy() for tensor in constants if tensor is not None)
        wanted = source.attributes.get("axis", 1) % weights.ndim == axis and scales.shape == (weights.shape[axis],)  # type: ignore[operator]
        if weights.dtype != np.int8 or not wanted or zeros.any():
            raise _cannot(node, "its weights must be int8 with zero point 0 and one scale for each output channel")
        return weights, scales.astype(np.float64)

    def _bias(self, node: Node, size: int) -> NDArray[Any]:
        import numpy as np

        if len(node.inputs) < 3 or not node.inputs[2]:
            return np.zeros(size)
        tensor = self.graph.initializers.get(node.inputs[2])
        if tensor is None or tensor.dtype is not DType.FLOAT or tensor.size != size:
            raise _cannot(node, "its bias must be a float32 constant, one value for each output channel")
        return tensor.numpy().reshape(-1).astype(np.float64)

    def _scale(self, node: Node) -> float:
        tensor = self.graph.initializers.get(node.inputs[1])
        if tensor is None or tensor.dtype is not DType.FLOAT or tensor.size != 1:
            raise _cannot(node, "its scale must be one float32 constant")
        return float(tensor.numpy().reshape(-1)[0])

    def _store(self, node: Node, activation: Activation) -> None:
        """Note what a QuantizeLinear (or, for an int8 input, its DequantizeLinear) says of the integers."""
        zero = self.graph.initializers.get(node.inputs[2]) if len(node.inputs) > 2 else None
        wanted = DType.INT8 if activation.signed else DType.UINT8
        if zero is None or zero.dtype is not wanted or zero.size != 1 or zero.numpy().any():
            raise _cannot(node, f"'{activation.name}' must be {wanted.name.lower()} with zero point 0")
        self.activations[activation.name] = activation
        self.stored[node.outputs[0] if node.op_type == "QuantizeLinear" else node.inputs[0]] = activation

    def _float32(self, node: Node, values: NDArray[Any] | float, margin: float = 1.0) -> NDArray[Any]:
        """Constants of the epilogue, computed in float64, as float32."""
        import numpy as np

        with np.errstate(over="ignore"):
            rounded = np.asarray(values, np.float64).astype(np.float32)
            finite = np.isfinite(rounded * np.float32(margin)).all()
        if not finite:
            raise _cannot(node, "its scales leave float32's range; calibrate anew, or check the model")
        return rounded
