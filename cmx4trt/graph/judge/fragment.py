"""Layers of a prepared graph, each fed with the original's values, with the judgement of what they give: one graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cmx4trt.graph.arithmetic import REDUCED
from cmx4trt.graph.judge.bounds import BoundWriter, UnknownBoundError, Value
from cmx4trt.ir.model import DType, Graph, Model, Node, ValueInfo, fresh_name
from cmx4trt.ir.writer import GraphWriter

EXCESSES = "excesses"
"""The output of a fragment, one number for each layer: its largest error over the bound of it."""
_NO_ERROR = 1e-37
"""In place of a bound of 0, which nothing can be divided by."""


@dataclass(frozen=True, slots=True, eq=False)
class Fragment:
    """``model`` has the original's values as inputs, under the prepared graph's names; ``values``: those it judges, in the order
    of its outputs."""

    model: Model
    values: list[str]


def write_fragment(
    body: Model,
    nodes: list[Node],
    fed: Mapping[str, DType],
    judged: Collection[str],
    same: Collection[str],
    reduced: Mapping[str, DType],
) -> Fragment:
    """The fragment that computes and judges the values ``judged`` from those ``fed``, which they are among.

    ``body``: a prepared graph as ``faithful`` makes it; ``nodes``: those of its nodes that lie behind fed values, in order;
    the types of ``fed``, and of the ``reduced`` values, are those in the prepared graph; ``same``: values whose layers have the
    original's constants. What has no bound is not judged.
    """
    writer = _FragmentWriter(body, fed, same, reduced)
    for node in nodes:
        writer.compute(node, node.outputs[0] in judged)
    return writer.fragment()


class _FragmentWriter:
    def __init__(
        self, body: Model, fed: Mapping[str, DType], same: Collection[str], reduced: Mapping[str, DType]
    ) -> None:
        self._body, self._fed, self._same, self._reduced = body, fed, same, reduced
        graph = Graph("layers", [], dict(body.graph.initializers), [], [])
        self._used = body.graph.names() | set(fed)
        self._write = GraphWriter(graph, "judged/")
        self._bounds = BoundWriter(self._write, body.graph.initializers)
        self._values = {name: Value(name, dtype) for name, dtype in fed.items()}
        self._judged: list[str] = []
        self._excesses: list[str] = []

    def compute(self, node: Node, judge: bool) -> None:
        """Append a node, unless something it reads could not be appended; judge what it gives."""
        constants = self._body.graph.initializers
        if any(name and name not in self._values and name not in constants for name in node.inputs):
            return
        inputs = [self._values.get(name) for name in node.inputs]
        own = fresh_name(f"{node.outputs[0]}/own", self._used)
        names = [name if value is None else value.name for name, value in zip(node.inputs, inputs, strict=True)]
        copy = Node(node.op_type, names, [own], node.attributes, own)
        self._write.graph.nodes.append(copy)
        try:
            value = self._value(copy, inputs, own, node)
        except UnknownBoundError:
            return
        if judge:
            self._judge(node.outputs[0], value)
        self._values.setdefault(node.outputs[0], value)

    def _value(self, node: Node, inputs: list[Value | None], own: str, source: Node) -> Value:
        dtype = next(value.dtype for value in inputs if value is not None)
        wanted = node.attributes.get("to")
        if node.op_type == "DequantizeLinear":
            dtype = self._reduced.get(source.outputs[0], DType.FLOAT)
        if node.op_type == "Cast" and wanted in REDUCED:
            before, dtype = inputs[0], DType(wanted)  # type: ignore[arg-type]
            assert before is not None
            if before.dtype is dtype and before.bound is None:
                return Value(own, dtype)
            wide = self._write.cast(own, DType.FLOAT)
            return Value(own, dtype, self._bounds.rounded(before.bound, wide, dtype))
        bound = self._bounds.bound(node, inputs, own, source.outputs[0] in self._same)
        if bound is not None and dtype is DType.FLOAT and node.op_type != "Cast":
            bound = self._bounds.rounded(bound, own, dtype)
        return Value(own, dtype, bound)

    def _judge(self, name: str, value: Value) -> None:
        write = self._write
        error = write.op("Abs", write.op("Sub", value.name, name))
        share = write.op("Div", error, value.bound or write.number(_NO_ERROR))
        self._excesses.append(write.op("ReduceMax", share, keepdims=0))
        self._judged.append(name)

    def fragment(self) -> Fragment:
        """What was appended so far."""
        write, graph = self._write, self._write.graph
        write.op("Concat", *[write.reshape(number, 1) for number in self._excesses], name=EXCESSES, axis=0)
        graph.outputs = [ValueInfo(EXCESSES, DType.FLOAT, (len(self._judged),))]
        graph.prune()
        read = {name for node in graph.nodes for name in node.inputs}
        types = {name: DType.INT8 if dtype is DType.INT8 else DType.FLOAT for name, dtype in self._fed.items()}
        graph.inputs = [ValueInfo(name, dtype, None) for name, dtype in types.items() if name in read]
        return Fragment(Model(graph, dict(self._body.opsets), self._body.ir_version), self._judged)
