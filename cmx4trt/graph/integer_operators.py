"""Operators on integers (ONNX Runtime's QOperator format), written as the Q/DQ pairs around floats that they stand for.

Sources: onnx/docs/Operators.md (QLinearConv, QLinearMatMul), onnxruntime/docs/ContribOperators.md (the others).
"""

from __future__ import annotations

from collections.abc import Iterator

from cmx4trt.base.frozen import Frozen
from cmx4trt.errors import ModelError
from cmx4trt.graph.own_quantization import DEQUANTIZE, QUANTIZE
from cmx4trt.ir.model import Graph, Node, Tensor, fresh_name


class _Form(Frozen):
    """The operator on floats; places of the operands, each followed by scale and zero point, of the result's scale, and of an
    int32 bias, whose scale is the product of the operands'."""

    op_type: str
    operands: tuple[int, ...]
    result: int
    bias: int | None = None


_FORMS = {
    "QLinearConv": _Form("Conv", (0, 3), 6, 8),
    "QLinearMatMul": _Form("MatMul", (0, 3), 6),
    "QLinearAdd": _Form("Add", (0, 3), 6),
    "QLinearGlobalAveragePool": _Form("GlobalAveragePool", (0,), 3),
    "QGemm": _Form("Gemm", (0, 3), 7, 6),
}
_PASSING = ("MaxPool", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity")
"""Operators that take integers as they are, and give some of them."""


def is_integer_operator(node: Node) -> bool:
    """Whether ``node`` computes with integers, and is none that ``split_integers`` takes apart."""
    name = node.op_type
    return name.startswith(("QLinear", "QGemm", "QAttention", "DynamicQuantize")) or name.endswith("Integer")


def split_integers(graph: Graph) -> int:
    """Operators on integers become the same on floats, between DequantizeLinear and QuantizeLinear; returns how many there were.

    Requires: constants are initializers. A result that the file dequantizes has, as a float, the name that it has there. Raises
    ModelError where the scale of a bias is computed.
    """
    if not any(_form_of(node) for node in graph.nodes):
        return 0
    return _Splitter(graph).run()


def _form_of(node: Node) -> _Form | None:
    return None if node.attributes.get("channels_last", 0) else _FORMS.get(node.op_type)


class _Splitter:
    """``_scaled``: integers -> their scale and zero point; ``_floats``: those that are dequantized already -> what as."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.used: set[str] = set()
        self._scaled: dict[str, list[str]] = {}
        self._floats: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def run(self) -> int:
        self.used = self.graph.names()
        self._free_names()
        nodes: list[Node] = []
        count = 0
        for node in self.graph.nodes:
            form = _form_of(node)
            if form is not None:
                nodes += self._split(node, form)
                count += 1
            elif node.op_type in _PASSING and node.inputs[0] in self._scaled:
                nodes += self._on_floats(node)
            else:
                if node.op_type == QUANTIZE:
                    self._scaled[node.outputs[0]] = node.inputs[1:]
                nodes.append(node)
        self.graph.nodes = nodes
        self.graph.prune()
        return count

    def _free_names(self) -> None:
        """What the file dequantizes a result of integers to is the name of that result; the value itself gets another."""
        producers = self.graph.producers()
        for node in self.graph.nodes:
            before = producers.get(node.inputs[0]) if node.op_type == DEQUANTIZE else None
            if before is not None and _form_of(before) and node.inputs[0] not in self._names:
                self._names[node.inputs[0]] = old = node.outputs[0]
                new = fresh_name(f"{old}_dequantized", self.used)
                self.graph.rename_reads(old, new)
                node.outputs = [new]

    def _split(self, node: Node, form: _Form) -> Iterator[Node]:
        inputs = []
        for place in form.operands:
            axis = 0 if form.op_type == "Conv" or node.attributes.get("transB", 0) else 1
            yield from self._dequantized(node.inputs[place : place + 3], axis)
            inputs.append(self._floats[node.inputs[place]])
        if form.bias is not None and len(node.inputs) > form.bias and node.inputs[form.bias]:
            yield (bias := self._bias(node, form, node.inputs[form.bias]))
            inputs.append(bias.outputs[0])
        parameters = [name for name in node.inputs[form.result : form.result + 2] if name]
        attributes = {key: value for key, value in node.attributes.items() if key != "channels_last"}
        yield from self._quantized(Node(form.op_type, inputs, node.outputs, attributes, node.name), parameters)

    def _on_floats(self, node: Node) -> Iterator[Node]:
        parameters = self._scaled[node.inputs[0]]
        yield from self._dequantized([node.inputs[0], *parameters])
        inputs = [self._floats[node.inputs[0]], *node.inputs[1:]]
        yield from self._quantized(Node(node.op_type, inputs, node.outputs, node.attributes, node.name), parameters)

    def _dequantized(self, inputs: list[str], axis: int = 1) -> Iterator[Node]:
        """Once for all readers."""
        integers = inputs[0]
        if integers not in self._floats:
            self._floats[integers] = name = fresh_name(f"{integers}_float", self.used)
            yield Node(DEQUANTIZE, [part for part in inputs if part], [name], {"axis": axis}, name)

    def _quantized(self, node: Node, parameters: list[str]) -> Iterator[Node]:
        """``node``, whose result is a float now, and its quantization; none where there is no scale."""
        integers = node.outputs[0]
        if parameters:
            node.outputs = [self._names.get(integers) or fresh_name(f"{integers}_result", self.used)]
            quantizer = fresh_name(f"{integers}_quantizer", self.used)
            self._scaled[integers] = parameters
            yield node
            yield Node(QUANTIZE, [node.outputs[0], *parameters], [integers], {}, quantizer)
        else:
            yield node

    def _bias(self, node: Node, form: _Form, bias: str) -> Node:
        import numpy as np

        scales = [self.graph.initializers.get(node.inputs[place + 1]) for place in form.operands]
        product = np.array([node.attributes.get("alpha", 1.0)], np.float64)
        for scale in scales:
            if scale is None:
                raise ModelError(f"{node.label()} has a computed scale, expected constants; give the float model")
            product = product * scale.numpy().astype(np.float64).reshape(-1)
        name = fresh_name(f"{bias}_scale", self.used)
        shape = product.shape if product.size > 1 else ()
        self.graph.initializers[name] = Tensor.from_numpy(name, product.astype(np.float32).reshape(shape))
        result = fresh_name(f"{bias}_float", self.used)
        return Node(DEQUANTIZE, [bias, name], [result], {"axis": 0}, result)
