"""The original's operators in the engine's arithmetic: run in parts, so that no more than a part's values are in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from cmx4trt.graph.arithmetic import EXACT, REDUCED, round_outputs, rounder_of
from cmx4trt.graph.constants import fold_dequantized, nodes_before
from cmx4trt.graph.judge.values import is_brief
from cmx4trt.graph.judge.weights import has_folded_bias, is_folded, is_same_but_for_rounding, normalized
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


_SHAPE = "/judged/shape"
"""Ends the names of what is computed of a value of which only the shape is looked at."""
OTHER_WEIGHTS = 1 / 64
"""Weights that differ by more than this, relative to their norm, are no roundings: bfloat16's are off by 1/512."""


class Reference:
    """A file's graph in float32 whose values that ``types`` names are rounded to these types.

    ``producers``: what gives each of the file's values; ``rounded_inputs``: what rounded inputs are called, to the file's names.
    ``model`` is what ``as_float32`` has made of the file's, and is consumed.
    """

    def __init__(self, model: Model, types: Mapping[str, DType]) -> None:
        self._model = model
        graph = model.graph
        self._used = graph.names()
        batch = (graph.inputs[0].dims or (None,))[0]
        self._batch = batch if isinstance(batch, int) and batch > 0 else 1  # what some files fix
        self.producers: Mapping[str, Node] = graph.producers()
        self._normalized = normalized(model, list(types), types)
        self._inputs = _round(model, types, self._used)
        self.rounded_inputs: Mapping[str, str] = {inner: name for name, inner in self._inputs.items()}
        self._known: Arrays = {}

    @property
    def graph(self) -> Graph:
        """The graph, values under the names that they have in the file; a rounded input has another."""
        return self._model.graph

    def has_bias(self, value: str, op_type: str) -> bool:
        """Whether ``value`` is the result of an operator of this type with a bias that is not all zeros, or of a convolution with
        batch normalization that makes one."""
        normal = self._normalized.get(value)
        if normal is not None:
            return op_type == "Conv" and has_folded_bias(normal, self.graph.initializers)
        node = self.producers.get(value)
        bias = self.graph.initializers.get(node.inputs[2]) if node is not None and len(node.inputs) > 2 else None
        return node is not None and node.op_type == op_type and bias is not None and bool(bias.numpy().any())

    def has_other_weights(self, value: str, weight: Tensor | None) -> bool:
        """Whether the operator that gives ``value`` multiplies by weights of the same shape and clearly other numbers."""
        import numpy as np

        own = self.graph.initializers.get(self.producers[value].inputs[1])
        if own is None or weight is None or own.dims != weight.dims or not own.dtype is weight.dtype is DType.FLOAT:
            return False
        exact = own.numpy()
        return bool(np.linalg.norm(exact - weight.numpy()) > OTHER_WEIGHTS * np.linalg.norm(exact))

    def use_weights(self, value: str, weights: Sequence[Tensor], dtype: DType) -> bool:
        """Let the operator that gives ``value`` multiply by the float32 ``weights``, where its own, with the batch normalization
        behind it, are these but for rounding to ``dtype``; returns whether it does."""
        node, normal = self.producers.get(value), self._normalized.get(value)
        constants = self.graph.initializers
        if normal is not None:
            if not is_folded(weights, normal, constants, dtype):
                return False
            assert node is not None
            node.op_type, node.domain = "Conv", ""
            node.attributes, node.inputs = normal.convolution.attributes, [*normal.convolution.inputs[:2], ""]
        else:
            own = [constants.get(name) for name in node.inputs[1:] if name] if node else []
            if node is None or len(own) != len(weights):
                return False
            pairs = zip(own, weights, strict=True)
            if not all(mine is not None and is_same_but_for_rounding(mine, theirs, dtype) for mine, theirs in pairs):
                return False
        for index, tensor in enumerate(weights, 1):
            name = fresh_name(f"{value}_rounded_{index}", self._used)
            constants[name] = tensor.renamed(name)
            node.inputs[index] = name
        return True

    def reads(self, values: Iterable[str], known: Collection[str]) -> set[str]:
        """Which of the values ``known`` are needed to compute ``values``."""
        inner = {self._inputs.get(name, name): name for name in known}
        nodes = nodes_before(self.graph, [self._inputs.get(name, name) for name in values], inner)
        return {inner[name] for node in nodes for name in node_reads(node) if name in inner}

    def run(
        self, values: Sequence[str], keep: Collection[str], measured: Sequence[str], image: Arrays, elements: int
    ) -> tuple[Arrays, dict[str, tuple[int, ...]]]:
        """``values`` [1, ...] for an ``image`` [1, C, H, W] of the file's input, computed from those that were kept of earlier
        calls, and the shapes of those ``measured``; ``keep`` names those, of the ones before and of these, that later calls
        need; ``elements`` are about as many as are computed."""
        given = {**image, **self._known}
        wanted = [self._inputs.get(name, name) for name in values]
        kept = {self._inputs.get(name, name) for name in keep}
        new = [name for name in wanted if name not in given]
        unseen = [name for name in measured if name not in given and name not in new]
        found = {**given, **self._compute(new, unseen, given, elements)}
        self._known = {name: found[name] for name in kept if name in found}
        shapes = {name: found[name].shape if name in found else tuple(found[f"{name}{_SHAPE}"]) for name in measured}
        return {name: found[inner] for name, inner in zip(values, wanted, strict=True)}, shapes

    def _compute(self, values: Sequence[str], measured: Sequence[str], given: Arrays, elements: int) -> Arrays:
        """Values, and what ``_SHAPE`` ends; a file with a fixed batch gets copies of the image."""
        import numpy as np

        if not values and not measured:
            return {}
        session, feeds = self._open(values, measured, given, elements)
        row = {name: np.repeat(given[name], self._batch, axis=0) if self._batch > 1 else given[name] for name in feeds}
        found = session.run(row)
        return {name: array if name.endswith(_SHAPE) else array[:1] for name, array in found.items()}

    def _open(
        self, names: Sequence[str], measured: Sequence[str], given: Arrays, elements: int
    ) -> tuple[Any, list[str]]:
        from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

        graph = self.graph
        nodes = nodes_before(graph, [*names, *measured], given)
        reads = {name for node in nodes for name in node_reads(node)}
        inputs = [ValueInfo(name, _declared(array), None) for name, array in given.items() if name in reads]
        outputs = [ValueInfo(name, DType.FLOAT, None) for name in names]
        for name in reversed(measured):  # see WatchedSession
            nodes.append(Node("Shape", [name], [f"{name}{_SHAPE}"], {}))
            outputs.append(ValueInfo(f"{name}{_SHAPE}", DType.INT64, None))
        part = Graph("part", nodes, graph.initializers, inputs, outputs)
        part.prune()
        message = encode_model(Model(part, self._model.opsets, self._model.ir_version))
        weights = sum(prod(tensor.dims) for tensor in part.initializers.values())
        session = OnnxRuntimeSession.from_bytes(
            message.message,
            constants=message.constants,
            what="the original model",
            as_written=is_brief(elements, weights),
        )
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
