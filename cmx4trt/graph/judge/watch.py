"""Looks at every value that a prepared graph computes for numbers that are not finite: beside whatever else it is run for.

Of each value that an operator may make infinite there is a sum, which costs less than one more pass: a value that was rounded
to infinity is found, also where the operator behind it hides that (ReLU makes 0 of -infinity).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cmx4trt.graph.arithmetic import EXACT, REDUCED, reduced_values
from cmx4trt.graph.constants import nodes_before
from cmx4trt.graph.execution import own_arithmetic
from cmx4trt.graph.judge.correspondence import computed_name
from cmx4trt.graph.judge.judgement import NonFinite
from cmx4trt.graph.precision import FLOATS, NO_FLOAT_OUTPUT
from cmx4trt.ir.model import DType, Graph, Model, Node, ValueInfo, fresh_name
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

TYPE_NAMES = {DType.FLOAT: "float32", DType.FLOAT16: "float16", DType.BFLOAT16: "bfloat16", DType.INT8: "int8"}


class WatchedSession:
    """A prepared ``graph`` in its own arithmetic on the CPU; see ``sessions.base.Session``.

    ``results``: where what is watched ends; ``shown``: values that are among the outputs besides the graph's own, as float32, by
    the names they have where they are computed; ``arithmetic``: what ``own_arithmetic`` gave for the graph, where that was made
    already; ``as_written``: see ``OnnxRuntimeSession.from_bytes``.
    """

    max_batch: int | None = None

    def __init__(
        self,
        graph: Model,
        results: Iterable[str],
        shown: Iterable[str] = (),
        arithmetic: Model | None = None,
        as_written: bool = False,
    ) -> None:
        self._graph, self._as_written = graph.graph, as_written
        self._model = (arithmetic or own_arithmetic(graph)).copy()
        self._watched = {node.outputs[0]: node for node in watched_nodes(self._graph, results)}
        body = self._model.graph
        body.outputs = [ValueInfo(info.name, info.dtype, info.dims) for info in body.outputs]
        declared, used = {info.name for info in body.outputs}, body.names()
        body.outputs += [ValueInfo(name, DType.FLOAT, None) for name in shown if name not in declared]
        self.outputs = tuple(info.name for info in body.outputs)
        self._sums = {fresh_name(f"{name}/sum", used): name for name in self._watched}
        # ONNX Runtime begins with the last of the nodes that nothing reads. In this order each value is added up as soon as it is
        # there, and freed with its last reader; in the other all values would be kept.
        for total, name in reversed(self._sums.items()):
            body.nodes.append(Node("ReduceSum", [name], [total], {"keepdims": 0}, total))
            body.outputs.append(ValueInfo(total, DType.FLOAT, None))
        self._halves = {info.name for info in self._graph.outputs if info.dtype in REDUCED} - self._watched.keys()
        self._session = OnnxRuntimeSession.from_graph(encode_model(self._model), as_written=as_written)
        self.inputs = self._session.inputs
        self._doubtful: dict[str, list[Arrays]] = {}

    def input_dtype(self, name: str) -> str:
        """The numpy name of the element type of input ``name``."""
        return self._session.input_dtype(name)

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """All outputs for ``feeds``. Raises as ``OnnxRuntimeSession.run`` does."""
        from math import isfinite

        import numpy as np

        found = self._session.run(feeds)
        for total, name in self._sums.items():
            if not isfinite(found.pop(total)):
                self._doubtful.setdefault(name, []).append(feeds)
        for name in self._halves:
            if not np.isfinite(found[name]).all():
                self._doubtful.setdefault(name, []).append(feeds)
        return found

    def non_finite(self) -> NonFinite | None:
        """The first value, in the order of the graph, that was not finite in a run so far (a sum may overflow where none is)."""
        import numpy as np

        producers = self._graph.producers()
        for name, node in {**self._watched, **{name: producers[name] for name in self._halves}}.items():
            arrays = [self._value(name, feeds) for feeds in self._doubtful.get(name, ())]
            size = sum(array.size for array in arrays)
            count = size - sum(int(np.isfinite(array).sum()) for array in arrays)
            if count:
                dtype = TYPE_NAMES[reduced_values(self._graph).get(name, DType.FLOAT)]
                infinite = any(bool(np.isinf(array).any()) for array in arrays)
                return NonFinite(node.label(), dtype, count, size, infinite)
        return None

    def _value(self, name: str, feeds: Arrays) -> NDArray[Any]:
        part = self._model.copy()
        declared = {info.name: info for info in part.graph.outputs}
        part.graph.outputs = [declared.get(name, ValueInfo(name, DType.FLOAT, None))]
        part.graph.prune()
        session = OnnxRuntimeSession.from_graph(encode_model(part), as_written=self._as_written)
        return session.run(feeds)[name]


def watched_nodes(graph: Graph, results: Iterable[str]) -> list[Node]:
    """Those of ``graph`` up to ``results``, in order, that give floats which are not among what they read: any of these may be
    infinite though what it is computed from is not. Dequantized weights are constants."""
    floats = {info.name for info in graph.inputs if info.dtype in FLOATS}
    floats |= {name for name, tensor in graph.initializers.items() if tensor.dtype in FLOATS}
    found = []
    for node in nodes_before(graph, [computed_name(graph, name) for name in results]):
        if not _gives_floats(node, floats):
            continue
        floats.update(node.outputs)
        if node.op_type not in EXACT and not all(name in graph.initializers for name in node.inputs if name):
            found.append(node)
    return found


def _gives_floats(node: Node, floats: Collection[str]) -> bool:
    if node.op_type == "Cast":
        return node.attributes["to"] in FLOATS
    return node.op_type not in NO_FLOAT_OUTPUT and any(name in floats for name in node.inputs)
