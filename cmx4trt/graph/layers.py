"""What every layer of a prepared graph computes and moves: counted from shapes, for the manifest and its report.

A layer is an operator with the element-wise ones that follow it, as builders fuse them: Conv + Add + Relu is one. Its data
are read once and written once. That is a model of an engine, not what a builder did with the graph.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import prod
from typing import Any

from cmx4trt.base.frozen import Frozen
from cmx4trt.base.typed import Record
from cmx4trt.graph.shapes import POINTWISE, PRODUCTS, VIEWS, Shape, floats_of, multiply_accumulates, output_shape
from cmx4trt.ir.int8 import INT8_MAX, UINT8_MAX
from cmx4trt.ir.model import DType, Graph, Node

PRECISIONS = {
    DType.FLOAT: "fp32",
    DType.FLOAT16: "fp16",
    DType.BFLOAT16: "bf16",
    DType.INT8: "int8",
    DType.UINT8: "int8",
}
"""Types that layers compute with, as the options call them."""


class Layer(Record):
    """One layer of one image.

    ``op``: its operators, the first first; ``precision``: the type of the data it computes with; ``shape``: of its output,
    without the batch; ``macs``: multiply-accumulates; ``weight_bytes``: constants it reads; ``activation_bytes``: what it
    reads and writes beside them; ``input_scale``: what one step of an 8-bit input is worth; ``input_steps``: how many of them
    its largest magnitude is, 255 of uint8 and 127 of int8.
    """

    name: str
    op: str
    precision: str
    shape: Sequence[int]
    macs: int
    weight_bytes: int
    activation_bytes: int
    input_scale: float | None = None
    input_steps: int = INT8_MAX


class LayerCount(Frozen):
    """All layers whose shapes follow from the input's; ``uncounted``: the other operators, by type."""

    layers: list[Layer]
    uncounted: dict[str, int]
    constant_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """For the manifest's record of the graph."""
        return {
            "constant_bytes": self.constant_bytes,
            "uncounted_operators": self.uncounted,
            "layers": [layer.to_dict() for layer in self.layers],
        }


def count_layers(graph: Graph) -> LayerCount:
    """The layers of ``graph``, whose first dimension is the batch, in the order they are computed."""
    return _Counter(graph).run()


class _Fused:
    """A layer that grows: its operators, the values it reads from memory, the value it writes."""

    __slots__ = ("macs", "node", "number", "ops", "output", "reads", "weight_bytes")

    def __init__(self, node: Node, number: int, macs: int, output: str) -> None:
        self.node = node
        self.number = number
        self.macs = macs
        self.output = output
        self.ops: list[str] = []
        self.reads: list[str] = []
        self.weight_bytes = 0


class _Value:
    """Shape and type of a value; ``stored`` names the one that lies in memory for it (a view's or DequantizeLinear's input)."""

    __slots__ = ("dtype", "shape", "stored")

    def __init__(self, shape: Shape | None, dtype: DType, stored: str = "") -> None:
        self.shape = shape
        self.dtype = dtype
        self.stored = stored


class _Counter:
    __slots__ = ("fused", "graph", "scales", "uncounted", "values", "writers")

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values: dict[str, _Value] = {}
        self.fused: list[_Fused] = []
        self.writers: dict[str, _Fused] = {}
        self.scales: dict[str, str] = {}
        self.uncounted: Counter[str] = Counter()

    def run(self) -> LayerCount:
        for name, tensor in self.graph.initializers.items():
            self.values[name] = _Value(tensor.dims, tensor.dtype)
        for info in self.graph.inputs:
            dims = tuple(size if isinstance(size, int) else 1 for size in info.dims or ())
            self.values[info.name] = _Value((1, *dims[1:]) if dims else None, info.dtype)
        readers = Counter(name for node in self.graph.nodes for name in node.inputs)
        readers.update(info.name for info in self.graph.outputs)
        for node in self.graph.nodes:
            self._visit(node, readers)
        size = sum(tensor.size * tensor.dtype.itemsize for tensor in self.graph.initializers.values())
        return LayerCount([self._layer(fused) for fused in self.fused], dict(self.uncounted), size)

    def _visit(self, node: Node, readers: Counter[str]) -> None:
        shapes = [self.values[name].shape if name in self.values else None for name in node.inputs if name]
        shape = output_shape(node, shapes, self.graph.initializers)
        if shape is None:
            self.uncounted[node.op_type] += 1
            return
        output = node.outputs[0]
        self.values[output] = _Value(shape, self._dtype_of_output(node))
        if node.op_type == "DequantizeLinear":
            self.scales[output] = node.inputs[1]
        if node.op_type == "DequantizeLinear" or node.op_type in VIEWS:
            self.values[output].stored = self._stored(node.inputs[0])
            return
        fused = self._layer_before(node, readers) if node.op_type in POINTWISE else None
        if fused is None:
            fused = _Fused(node, len(self.fused), multiply_accumulates(node, shapes, shape), output)
            self.fused.append(fused)
        self._grow(fused, node)

    def _layer_before(self, node: Node, readers: Counter[str]) -> _Fused | None:
        """The latest layer whose result only ``node`` reads."""
        found = [self.writers[name] for name in node.inputs if name in self.writers and readers[name] == 1]
        return max(found, key=lambda fused: fused.number, default=None)

    def _grow(self, fused: _Fused, node: Node) -> None:
        before, fused.output = fused.output, node.outputs[0]
        self.writers.pop(before, None)
        self.writers[fused.output] = fused
        fused.ops.append(node.op_type)
        for name in node.inputs:
            if name == before or name not in self.values:
                continue
            stored = self._stored(name)
            if stored in self.graph.initializers:
                fused.weight_bytes += self._bytes(stored)
            else:
                fused.reads.append(name)

    def _stored(self, name: str) -> str:
        return self.values[name].stored or name

    def _bytes(self, stored: str) -> int:
        value = self.values[stored]
        return prod(value.shape or ()) * value.dtype.itemsize

    def _dtype_of_output(self, node: Node) -> DType:
        if node.op_type == "Cast":
            code = node.attributes["to"]
            assert isinstance(code, int)
            return DType(code)
        if node.op_type == "QuantizeLinear":
            return self.values[node.inputs[2]].dtype if len(node.inputs) > 2 else DType.UINT8
        return self.values[node.inputs[1 if node.op_type == "DequantizeLinear" else 0]].dtype

    def _layer(self, fused: _Fused) -> Layer:
        node, output = fused.node, self.values[fused.output]
        data = [self.values[self._stored(name)].dtype for name in node.inputs[: 2 if node.op_type in PRODUCTS else 1]]
        precisions = {PRECISIONS.get(dtype, dtype.name.lower()) for dtype in data}
        computed = self.values[node.inputs[0]].dtype
        return Layer(
            name=node.name or node.outputs[0],
            op=" + ".join(fused.ops),
            precision=precisions.pop() if len(precisions) == 1 else PRECISIONS.get(computed, computed.name.lower()),
            shape=list(output.shape or ())[1:],
            macs=fused.macs,
            weight_bytes=fused.weight_bytes,
            activation_bytes=sum(self._bytes(self._stored(name)) for name in fused.reads) + self._bytes(fused.output),
            input_scale=self._input_scale(node.inputs[0]),
            input_steps=UINT8_MAX if data[0] is DType.UINT8 else INT8_MAX,
        )

    def _input_scale(self, name: str) -> float | None:
        source = self.scales.get(name)
        return floats_of(self.graph.initializers[source])[0] if source in self.graph.initializers else None
