"""An ONNX graph in memory: plain objects, constants as views of the bytes they were read from.

The objects follow onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto) one to one; names of
element types and their codes are those of ``TensorProto.DataType``. Constants keep the ONNX raw layout (row-major,
little-endian), so a constant that no pass modifies is never copied (docs/decisions/001-own-onnx-reader.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Union

from cmx4trt.ir.tensor import Buffer as Buffer
from cmx4trt.ir.tensor import DType as DType
from cmx4trt.ir.tensor import Tensor as Tensor


class ValueInfo:
    """A graph input or output. ``dims`` is None when the rank is unknown; one dimension is a size, a symbol or None."""

    __slots__ = ("dims", "dtype", "name")

    def __init__(self, name: str, dtype: DType, dims: tuple[int | str | None, ...] | None) -> None:
        self.name = name
        self.dtype = dtype
        self.dims = dims


Attribute = Union[int, float, str, Tensor, "Graph", list[int], list[float], list[str], list[Tensor], list["Graph"]]


class Node:
    """One operator. An empty string in ``inputs`` or ``outputs`` means an absent optional value."""

    __slots__ = ("attributes", "domain", "inputs", "name", "op_type", "outputs")

    def __init__(
        self,
        op_type: str,
        inputs: list[str],
        outputs: list[str],
        attributes: dict[str, Attribute] | None = None,
        name: str = "",
        domain: str = "",
    ) -> None:
        self.op_type = op_type
        self.inputs = inputs
        self.outputs = outputs
        self.attributes = {} if attributes is None else attributes
        self.name = name
        self.domain = domain

    def label(self) -> str:
        """The node in an error message: its operator and its name, or its first output if it has none."""
        return f"{self.op_type} '{self.name or (self.outputs[0] if self.outputs else '')}'"

    def ints(self, name: str, default: Sequence[int]) -> list[int]:
        """The integer list attribute ``name``, or ``default`` if the node does not have it."""
        value = self.attributes.get(name)
        return [int(v) for v in value] if isinstance(value, list) else list(default)  # type: ignore[arg-type]

    def subgraphs(self) -> Iterator[Graph]:
        """The graphs among the attributes (bodies of If, Loop, Scan)."""
        for value in self.attributes.values():
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, Graph):
                    yield item


class Graph:
    """Nodes in topological order, constants by name, inputs (without the constants) and outputs."""

    __slots__ = ("initializers", "inputs", "name", "nodes", "outputs")

    def __init__(
        self,
        name: str,
        nodes: list[Node],
        initializers: dict[str, Tensor],
        inputs: list[ValueInfo],
        outputs: list[ValueInfo],
    ) -> None:
        self.name = name
        self.nodes = nodes
        self.initializers = initializers
        self.inputs = inputs
        self.outputs = outputs

    def producers(self) -> dict[str, Node]:
        """The node that computes each value."""
        return {name: node for node in self.nodes for name in node.outputs if name}

    def consumers(self) -> dict[str, list[Node]]:
        """The nodes that read each value, once per reading node; readers inside subgraphs count as their node."""
        readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node_reads(node)):
                readers.setdefault(name, []).append(node)
        return readers

    def names(self) -> set[str]:
        """All names in use, of values and nodes, including those of subgraphs."""
        used = set(self.initializers) | {info.name for info in self.inputs + self.outputs}
        for node in self.nodes:
            used.update(node.inputs, node.outputs, (node.name,))
            for body in node.subgraphs():
                used |= body.names()
        return used

    def rename_reads(self, old: str, new: str) -> None:
        """Make every node and graph output that reads value ``old`` read ``new``; an output keeps no alias of ``old``."""
        for node in self.nodes:
            node.inputs = [new if name == old else name for name in node.inputs]
            for body in node.subgraphs():
                body.rename_reads(old, new)
        for info in self.outputs:
            if info.name == old:
                info.name = new

    def rename_value(self, old: str, new: str) -> None:
        """Rename value ``old`` to the unused name ``new`` wherever it is defined or read."""
        for node in self.nodes:
            node.outputs = [new if name == old else name for name in node.outputs]
        for info in self.inputs:
            if info.name == old:
                info.name = new
        if old in self.initializers:
            tensor = self.initializers.pop(old)
            self.initializers[new] = tensor.renamed(new)
        self.rename_reads(old, new)

    def make_room(self, name: str) -> None:
        """Rename the value called ``name``, if there is one, so that the name is free."""
        used = self.names()
        if name in used:
            self.rename_value(name, fresh_name(f"{name}_of_file", used))

    def claim_name(self, value: str, name: str) -> None:
        """Rename ``value`` to ``name``; another value with that name is renamed."""
        if value != name:
            self.make_room(name)
            self.rename_value(value, name)

    def prune(self) -> None:
        """Remove nodes that no output depends on and constants that nothing reads; keep the inputs."""
        needed = {info.name for info in self.outputs}
        kept: list[Node] = []
        for node in reversed(self.nodes):
            if any(name in needed for name in node.outputs if name):
                kept.append(node)
                needed.update(node_reads(node))
        self.nodes = kept[::-1]
        self.initializers = {name: t for name, t in self.initializers.items() if name in needed}


class Model:
    """A graph with its operator sets (domain -> version; '' is ai.onnx)."""

    __slots__ = ("graph", "ir_version", "opsets")

    def __init__(self, graph: Graph, opsets: dict[str, int], ir_version: int) -> None:
        self.graph = graph
        self.opsets = opsets
        self.ir_version = ir_version

    @property
    def opset(self) -> int:
        """The version of the standard operator set."""
        return self.opsets.get("", 1)

    def copy(self) -> Model:
        """A model whose graph can be edited without modifying this one; the constants' bytes are shared."""
        return Model(copy_graph(self.graph), dict(self.opsets), self.ir_version)


def node_reads(node: Node) -> Iterator[str]:
    """The outer values a node reads: its inputs and those captured by subgraphs."""
    yield from (name for name in node.inputs if name)
    for body in node.subgraphs():
        yield from captured_names(body)


def captured_names(body: Graph) -> set[str]:
    """The values that a subgraph takes from outside."""
    own = set(body.initializers) | {info.name for info in body.inputs}
    reads = {info.name for info in body.outputs}
    for node in body.nodes:
        own.update(node.outputs)
        reads.update(node_reads(node))
    return reads - own


def copy_graph(graph: Graph) -> Graph:
    """A copy with its own nodes, dictionaries and value infos over the same constants."""
    nodes = [
        Node(
            n.op_type,
            list(n.inputs),
            list(n.outputs),
            {key: _copy_attribute(value) for key, value in n.attributes.items()},
            n.name,
            n.domain,
        )
        for n in graph.nodes
    ]
    infos = [[ValueInfo(i.name, i.dtype, i.dims) for i in group] for group in (graph.inputs, graph.outputs)]
    return Graph(graph.name, nodes, dict(graph.initializers), *infos)


def _copy_attribute(value: Attribute) -> Attribute:
    if isinstance(value, Graph):
        return copy_graph(value)
    return list(value) if isinstance(value, list) else value  # type: ignore[return-value]


def fresh_name(wanted: str, used: set[str]) -> str:
    """``wanted``, or ``wanted_2``, ``wanted_3``, … if it is taken; the result is added to ``used``."""
    name, count = wanted, 1
    while name in used:
        count += 1
        name = f"{wanted}_{count}"
    used.add(name)
    return name
