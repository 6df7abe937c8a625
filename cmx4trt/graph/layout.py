"""NHWC values and the Transpose nodes around them: moved down through the graph until they cancel."""

from __future__ import annotations

from collections.abc import Sequence

from cmx4trt.ir.model import Graph, Node, Tensor, fresh_name

Order = tuple[int, ...]

TO_NHWC: Order = (0, 2, 3, 1)
_UNARY = {"Relu", "LeakyRelu", "Clip", "Sigmoid", "HardSwish", "Identity", "Cast"}
_BINARY = {"Add", "Sub", "Mul", "Div"}
_REDUCING = {"ReduceMean"}


def sink_transposes(graph: Graph) -> int:
    """Let element-wise operators, means and constants work on the values before a Transpose; returns how many are gone.

    Requires: constants are initializers. Where an operator needs the order that the file has (a convolution in NHWC has none),
    a Transpose is written in front of it.
    """
    before = sum(node.op_type == "Transpose" for node in graph.nodes)
    if not before:
        return 0
    _Sinker(graph).run()
    return before - sum(node.op_type == "Transpose" for node in graph.nodes)


class _Sinker:
    """``_sources``: value -> another value and the order of its axes that makes it."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._used = graph.names()
        self._sources: dict[str, tuple[str, Order]] = {}
        self._nodes: list[Node] = []
        self._written: set[str] = set()

    def run(self) -> None:
        for node in self._graph.nodes:
            if node.op_type == "Transpose" and (order := tuple(node.ints("perm", []))):
                source, first = self._sources.get(node.inputs[0], (node.inputs[0], tuple(range(len(order)))))
                self._sources[node.outputs[0]] = (source, tuple(first[axis] for axis in order))
            elif not self._moved(node):
                node.inputs = [self._written_out(name) for name in node.inputs]
                self._nodes.append(node)
        for info in self._graph.outputs:
            if info.name in self._sources:
                self._write(info.name)
        self._graph.nodes = self._nodes
        self._graph.prune()

    def _moved(self, node: Node) -> bool:
        """Whether ``node`` now reads the values before the Transpose."""
        orders = {self._sources[name][1] for name in node.inputs if name in self._sources}
        if len(orders) != 1:
            return False
        order = orders.pop()
        constants = [name for name in node.inputs if name in self._graph.initializers]
        if node.op_type in _REDUCING:
            return self._moved_mean(node, order)
        if node.op_type in _UNARY and node.inputs[0] in self._sources:
            kept = constants
        elif node.op_type in _BINARY and all(n in self._sources or n in constants for n in node.inputs):
            kept = []
        else:
            return False
        node.inputs = [
            self._sources[n][0] if n in self._sources else n if n in kept or not n else self._turned(n, order)
            for n in node.inputs
        ]
        self._append(node, order)
        return True

    def _moved_mean(self, node: Node, order: Order) -> bool:
        axes = _reduced_axes(node, self._graph)
        if not axes or len(order) != 4:
            return False
        moved = sorted(order[axis % 4] for axis in axes)
        node.inputs, node.attributes["axes"] = [self._sources[node.inputs[0]][0]], list(moved)
        if node.attributes.get("keepdims", 1):
            self._append(node, order)
            return True
        left = [axis for axis in order if axis not in moved]
        if left != sorted(left):
            self._append(node, tuple(sorted(left).index(axis) for axis in left))
        else:
            self._nodes.append(node)
        return True

    def _append(self, node: Node, order: Order) -> None:
        """``node`` writes another value, of which its old result is a Transpose."""
        result = fresh_name(f"{node.outputs[0]}_nchw", self._used)
        self._sources[node.outputs[0]] = (result, order)
        node.outputs = [result]
        self._nodes.append(node)

    def _turned(self, name: str, order: Order) -> str:
        """The constant ``name`` with its axes as the values before the Transpose have them."""
        import numpy as np

        values = self._graph.initializers[name].numpy()
        full = values.reshape((1,) * (len(order) - values.ndim) + values.shape)
        turned = np.ascontiguousarray(full.transpose(np.argsort(order)))
        result = fresh_name(f"{name}_nchw", self._used)
        self._graph.initializers[result] = Tensor.from_numpy(result, turned, self._graph.initializers[name].dtype)
        return result

    def _written_out(self, name: str) -> str:
        if name not in self._sources:
            return name
        source, order = self._sources[name]
        if order == tuple(range(len(order))):
            return source
        self._write(name)
        return name

    def _write(self, name: str) -> None:
        if name not in self._written:
            source, order = self._sources[name]
            self._written.add(name)
            self._nodes.append(Node("Transpose", [source], [name], {"perm": list(order)}, f"{name}_transposed"))


def _reduced_axes(node: Node, graph: Graph) -> Sequence[int]:
    if len(node.inputs) > 1 and node.inputs[1] in graph.initializers:
        return [int(axis) for axis in graph.initializers[node.inputs[1]].numpy().reshape(-1)]
    return node.ints("axes", [])
