"""The original's operators in the engine's arithmetic: run in parts, so that no more than a part's values are in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cmx4trt.graph.arithmetic import EXACT, REDUCED, ROUNDINGS, round_outputs, rounder_of
from cmx4trt.graph.constants import fold_dequantized, nodes_before
from cmx4trt.graph.passes import lift_constants
from cmx4trt.graph.widening import widen_floats
from cmx4trt.ir.model import DType, Graph, Model, Node, Tensor, ValueInfo, fresh_name, node_reads
from cmx4trt.ir.onnx_file import encode_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]


def as_float32(model: Model) -> Model:
    """The float32 network that a file's ``model``, which is consumed, stands for."""
    graph = model.graph
    lift_constants(graph)
    widen_floats(graph)
    fold_dequantized(graph)
    return model


class Reference:
    """A file's graph in float32 whose values that ``types`` names are rounded to these types.

    ``producers``: what gives each of the file's values. ``model`` is what ``as_float32`` has made of the file's, and is consumed.
    """

    def __init__(self, model: Model, types: Mapping[str, DType]) -> None:
        self._model = model
        graph = model.graph
        self._used = graph.names()
        self._image = graph.inputs[0].name
        batch = (graph.inputs[0].dims or (None,))[0]
        self._batch = batch if isinstance(batch, int) and batch > 0 else 1  # what some files fix
        self.producers: Mapping[str, Node] = graph.producers()
        self._inputs = _round(model, types, self._used)
        self._known: Arrays = {}

    @property
    def graph(self) -> Graph:
        """The graph, values under the names that they have in the file; a rounded input has another."""
        return self._model.graph

    def has_bias(self, value: str, op_type: str) -> bool:
        """Whether ``value`` is the result of an operator of this type with a bias that is not all zeros."""
        node = self.producers.get(value)
        bias = self.graph.initializers.get(node.inputs[2]) if node is not None and len(node.inputs) > 2 else None
        return node is not None and node.op_type == op_type and bias is not None and bool(bias.numpy().any())

    def use_weights(self, value: str, weights: Sequence[Tensor], dtype: DType) -> bool:
        """Let the operator that gives ``value`` multiply by the float32 ``weights``, where its own are these but for rounding to
        ``dtype``; returns whether it does."""
        node = self.producers.get(value)
        own = [self.graph.initializers.get(name) for name in node.inputs[1:] if name] if node else []
        if node is None or len(own) != len(weights):
            return False
        for mine, theirs in zip(own, weights, strict=True):
            if mine is None or not _same_but_for_rounding(mine, theirs, dtype):
                return False
        for index, tensor in enumerate(weights, 1):
            name = fresh_name(f"{node.inputs[index]}_rounded", self._used)
            self.graph.initializers[name] = Tensor(name, tensor.dtype, tensor.dims, tensor.data)
            node.inputs[index] = name
        return True

    def reads(self, values: Iterable[str], known: Collection[str]) -> set[str]:
        """Which of the values ``known`` are needed to compute ``values``."""
        inner = {self._inputs.get(name, name): name for name in known}
        nodes = nodes_before(self.graph, [self._inputs.get(name, name) for name in values], inner)
        return {inner[name] for node in nodes for name in node_reads(node) if name in inner}

    def run(self, values: Sequence[str], keep: Iterable[str], images: Arrays) -> Arrays:
        """``values`` [N, ...] for ``images`` [N, C, H, W] of the file's input, computed from those that were kept of earlier
        calls; ``keep`` names those, of the ones before and of these, that later calls need."""
        import numpy as np

        given = {**images, **self._known}
        wanted = [self._inputs.get(name, name) for name in values]
        new = [name for name in wanted if name not in given]
        found = dict(given)
        if new:
            session, feeds = self._open(new, given)
            rows = [{n: given[n][i : i + 1] for n in feeds} for i in range(len(images[self._image]))]
            runs = [session.run({n: np.repeat(row, self._batch, axis=0) for n, row in feed.items()}) for feed in rows]
            found.update({name: np.concatenate([run[name][:1] for run in runs]) for name in new})
        self._known = {name: found[name] for name in (self._inputs.get(k, k) for k in keep) if name in found}
        return {name: found[inner] for name, inner in zip(values, wanted, strict=True)}

    def _open(self, names: Sequence[str], given: Arrays) -> tuple[Any, list[str]]:
        from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

        graph = self.graph
        nodes = nodes_before(graph, names, given)
        reads = {name for node in nodes for name in node_reads(node)}
        inputs = [ValueInfo(name, _declared(array), None) for name, array in given.items() if name in reads]
        part = Graph("part", nodes, graph.initializers, inputs, [ValueInfo(name, DType.FLOAT, None) for name in names])
        part.prune()
        message = encode_model(Model(part, self._model.opsets, self._model.ir_version))
        session = OnnxRuntimeSession.from_bytes(message.message, constants=message.constants, what="the original model")
        return session, [info.name for info in inputs]


def _declared(array: NDArray[Any]) -> DType:
    return DType.INT8 if array.dtype == "int8" else DType.FLOAT


def _round(model: Model, types: Mapping[str, DType], used: set[str]) -> dict[str, str]:
    """Append roundings; returns the names of rounded graph inputs."""
    graph, rounder = model.graph, rounder_of(model.opset)
    inputs: dict[str, str] = {}
    nodes: list[Node] = []
    for info in graph.inputs:
        dtype = types.get(info.name)
        if dtype in REDUCED:
            inputs[info.name] = fresh_name(f"{info.name}_rounded", used)
            graph.rename_reads(info.name, inputs[info.name])
            nodes += rounder(info.name, inputs[info.name], dtype, used)
    rounded = {name for name, dtype in types.items() if dtype in REDUCED}
    for node in graph.nodes:
        nodes.append(node)
        dtype = types.get(node.outputs[0]) if node.outputs else None
        exact = node.op_type in EXACT and all(name in rounded for name in node.inputs if name)
        if dtype in REDUCED and not exact:
            nodes += round_outputs(node, dtype, used, rounder)
    graph.nodes = nodes
    return inputs


def _same_but_for_rounding(exact: Tensor, rounded: Tensor, dtype: DType) -> bool:
    import numpy as np

    if exact.dims != rounded.dims or not exact.dtype is rounded.dtype is DType.FLOAT:
        return False
    own, theirs = exact.numpy(), rounded.numpy()
    limit = ROUNDINGS[dtype]
    if dtype is DType.FLOAT:
        return np.array_equal(own, theirs)
    return bool((np.abs(own - theirs) <= np.abs(own) * np.float32(limit.unit) + np.float32(limit.least)).all())
