"""Lowers a prepared Q/DQ graph to the operations of ``network.py``; failures are one sentence that names the node.

Requires ``FLAVOR``'s quantization. A value is traced back from each QuantizeLinear to the preceding DequantizeLinear nodes:
everything in between is one operation.
"""

from __future__ import annotations

from cmx4trt.backends.flavor import QuantizationFlavor
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
from cmx4trt.backends.hopper.reading import Layer, Reader, cannot, float32
from cmx4trt.backends.hopper.windows import window_of
from cmx4trt.errors import UnsupportedError
from cmx4trt.ir.model import DType, Graph, Model, Node
from cmx4trt.networks.classification.outputs import CLASS, LOGITS

FLAVOR = QuantizationFlavor(rest=DType.FLOAT, unsigned=True, stored_shortcuts=False, classifier=True)
"""uint8 after Relu, whose saturation implements the Relu; in blocks with a projection, both convolutions are added before
rounding; the last matrix product is INT8; nothing is float16."""


def lower(model: Model) -> Network:
    """The operations of a graph that was quantized with ``FLAVOR``. Raises UnsupportedError, naming the node."""
    return _Lowering(model.graph).run()


def _addend(relu: Node, other: Layer | Activation | None, scale: float) -> Residual | Projection | None:
    """The addend of a convolution whose output has the step ``scale``."""
    if isinstance(other, Layer):
        multiplier = float32(other.node, other.multiplier(scale))
        return Projection(other.name, other.source.name, other.weights, multiplier, other.stride)
    if other is not None:
        # 65536 times the value must be finite: see Convolution.residual_bias.
        return Residual(other.name, float(float32(relu, other.scale / scale, margin=2.0**16)))
    return None


class _Lowering:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._reader = Reader(graph)
        self._operations: list[Operation] = []

    def run(self) -> Network:
        image = self._graph.inputs[0].name
        for node in self._graph.nodes:
            if node.op_type == "QuantizeLinear":
                self._lower_stored(node)
            elif node.op_type == "DequantizeLinear" and node.inputs[0] == image:
                self._add_input(node)
        classifier = self._classifier()
        activations = self._reader.activations
        return Network(activations[image], (*self._operations, classifier), activations)

    def _lower_stored(self, node: Node) -> None:
        """Everything between the stored inputs and this QuantizeLinear as one operation."""
        producer = self._reader.averaged(node.inputs[0]) or self._reader.producer(node.inputs[0])
        kind = producer.op_type if producer is not None else ""
        if producer is None or (kind == "Cast" and producer.inputs[0] == self._graph.inputs[0].name):
            self._add_input(node)
        elif kind == "Relu":
            self._lower_relu(node, producer)
        elif kind == "MaxPool":
            self._lower_max_pool(node, producer)
        elif kind == "GlobalAveragePool":
            self._lower_average_pool(node, producer)
        else:
            raise cannot(producer, "its result is quantized; only those of Relu, MaxPool and GlobalAveragePool can be")

    def _add_input(self, node: Node) -> None:
        """The network's input, quantized here or by the caller."""
        image = self._graph.inputs[0]
        sizes = [size for size in (image.dims or ())[1:] if isinstance(size, int)]
        if len(sizes) != 3:
            raise cannot(node, f"the input '{image.name}' has no fixed channels, height and width")
        channels, height, width = sizes
        activation = Activation(image.name, height, width, channels, self._reader.scale(node), signed=True)
        self._reader.store(node, activation)

    def _lower_relu(self, node: Node, relu: Node) -> None:
        """A convolution, possibly with an addend."""
        tensor, scale = node.inputs[0], self._reader.scale(node)
        below = self._reader.producer(relu.inputs[0])
        if below is not None and below.op_type == "Add":
            layer, other = self._addends(below)
        elif below is not None:
            layer, other = self._reader.layer(below), None
        else:
            raise cannot(relu, "it reads no convolution")
        bias = layer.bias + other.bias if isinstance(other, Layer) else layer.bias
        self._operations.append(
            Convolution(
                name=layer.name,
                input=layer.source.name,
                output=tensor,
                weights=layer.weights,
                multiplier=float32(layer.node, layer.multiplier(scale)),
                bias=float32(layer.node, bias / scale),
                stride=layer.stride,
                padding=layer.padding,
                addend=_addend(relu, other, scale),
            )
        )
        self._reader.store(node, Activation(tensor, *layer.size, len(layer.weights), scale))

    def _addends(self, add: Node) -> tuple[Layer, Layer | Activation]:
        """The convolution of an addition, and the other addend."""
        found = [self._added(add, name) for name in add.inputs]
        layers = [item for item in found if isinstance(item, Layer)]
        if not layers:
            raise cannot(add, "neither of its inputs is a convolution")
        order = list(self._reader.activations)
        layers.sort(key=lambda layer: order.index(layer.source.name))
        main = layers[-1]
        other = layers[0] if len(layers) == 2 else next(item for item in found if isinstance(item, Activation))
        if isinstance(other, Layer):
            shape, size = other.weights.shape, other.size
            if shape[1:3] != (1, 1) or other.padding:
                raise cannot(other.node, "a shortcut must be a 1x1 convolution without padding")
        else:
            shape, size = (other.channels,), (other.height, other.width)
        if (shape[0], *size) != (len(main.weights), *main.size):
            raise cannot(add, "its inputs have different shapes")
        return main, other

    def _added(self, add: Node, name: str) -> Layer | Activation:
        producer = self._reader.producer(name)
        if producer is not None and producer.op_type == "Conv":
            return self._reader.layer(producer)
        return self._reader.source(add, name)

    def _lower_max_pool(self, node: Node, pool: Node) -> None:
        source, scale = self._reader.source(pool, pool.inputs[0]), self._reader.scale(node)
        if scale != source.scale:
            raise cannot(pool, f"its input has the scale {source.scale:g}, its output {scale:g}; they must be equal")
        window = window_of(pool, pool.ints("kernel_shape", []), (source.height, source.width))
        if window is None or (window.kernel, window.stride) != (3, 2) or window.padding > 1:
            raise cannot(pool, "only windows of 3x3 with stride 2 and padding 0 or 1 are supported")
        if window.size != ((source.height + 1) // 2, (source.width + 1) // 2):
            raise cannot(pool, f"its output is {window.size[0]}x{window.size[1]}, expected half of its input")
        self._operations.append(MaxPool(pool.name or node.inputs[0], source.name, node.inputs[0], window.padding))
        self._reader.store(node, Activation(node.inputs[0], *window.size, source.channels, scale))

    def _lower_average_pool(self, node: Node, pool: Node) -> None:
        source, scale = self._reader.source(pool, pool.inputs[0]), self._reader.scale(node)
        factor = float32(pool, source.scale / (source.height * source.width * scale))
        self._operations.append(AveragePool(pool.name or node.inputs[0], source.name, node.inputs[0], float(factor)))
        self._reader.store(node, Activation(node.inputs[0], 1, 1, source.channels, scale))

    def _classifier(self) -> Classifier:
        """The operation that computes the logits; the class is the index of the largest, so ArgMax and Cast need not be
        lowered."""
        names = [info.name for info in self._graph.outputs]
        if not {LOGITS} <= set(names) <= {LOGITS, CLASS}:
            raise UnsupportedError(f"the builder hopper writes {LOGITS} and {CLASS}, the graph has {', '.join(names)}")
        node = self._reader.producer(LOGITS)
        if node is not None and node.op_type == "Cast":
            node = self._reader.producer(node.inputs[0])
        assert node is not None
        plain = all(node.attributes.get(key, 1.0) == 1.0 for key in ("alpha", "beta"))
        if node.op_type != "Gemm" or node.attributes.get("transA", 0) or not plain:
            raise cannot(node, "logits must come from a plain Gemm")
        source = self._reader.source(node, node.inputs[0])
        axis = 0 if node.attributes.get("transB", 0) else 1
        weights, scales = self._reader.weights(node, axis)
        ordered = weights if axis == 0 else weights.T.copy()
        layer = Layer(node, source, ordered, scales, self._reader.bias(node, len(scales)))
        if (source.height, source.width, source.channels) != (1, 1, layer.weights.shape[1]):
            raise cannot(node, f"it reads {layer.weights.shape[1]} values, but its input has another shape")
        multiplier, bias = float32(node, layer.multiplier(1.0)), float32(node, layer.bias)
        return Classifier(layer.name, source.name, layer.weights, multiplier, bias)
