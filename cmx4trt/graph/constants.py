"""Constants of a graph: equal ones shared, computed ones evaluated by ONNX Runtime instead of a second implementation."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cmx4trt.ir.model import DType, Graph, Model, Node, Tensor, ValueInfo, fresh_name, node_reads
from cmx4trt.ir.onnx_file import encode_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PREFIX_BYTES = 64
"""Bytes that tell most different constants apart without reading all of them."""


def share_equal_constants(graph: Graph) -> int:
    """Let all readers of equal constants read the first of them; returns the number of constants that are gone.

    Some exporters write a shared weight once for every use; an engine would hold every copy.
    """
    alike: dict[tuple[DType, DType, tuple[int, ...], bytes], list[Tensor]] = {}
    for tensor in graph.initializers.values():
        start = bytes(memoryview(tensor.compact.data)[:_PREFIX_BYTES])
        alike.setdefault((tensor.dtype, tensor.compact.dtype, tensor.dims, start), []).append(tensor)
    replacement: dict[str, str] = {}
    for tensors in alike.values():
        first_by_data: dict[bytes, str] = {}
        for tensor in tensors if len(tensors) > 1 else []:
            first = first_by_data.setdefault(bytes(tensor.compact.data), tensor.name)
            if first != tensor.name:
                replacement[tensor.name] = first
    _rename_reads(graph, replacement)
    for name in replacement:
        del graph.initializers[name]
    return len(replacement)


def _rename_reads(graph: Graph, replacement: Mapping[str, str]) -> None:
    for node in graph.nodes:
        node.inputs = [replacement.get(name, name) for name in node.inputs]
        for body in node.subgraphs():
            _rename_reads(body, replacement)
    for info in graph.outputs:
        info.name = replacement.get(info.name, info.name)


def fold_dequantized(graph: Graph) -> int:
    """Replace DequantizeLinear of constants with float32 scales by constants; returns how many there were.

    Requires: zero points are 0, and one scale for all, or one for each index along an axis.
    """
    import numpy as np

    folded: list[Node] = []
    for node in graph.nodes:
        integers, scale = (
            (graph.initializers.get(name) for name in node.inputs[:2]) if len(node.inputs) > 1 else (None,) * 2
        )
        if node.op_type != "DequantizeLinear" or integers is None or scale is None or scale.dtype is not DType.FLOAT:
            continue
        axis = int(node.attributes.get("axis", 1))  # type: ignore[arg-type]
        shape = [-1 if i == axis else 1 for i in range(len(integers.dims))] if scale.dims else []
        values = integers.numpy().astype(np.float32) * scale.numpy().reshape(shape)
        graph.initializers[node.outputs[0]] = Tensor.from_numpy(node.outputs[0], values)
        folded.append(node)
    gone = {id(node) for node in folded}
    graph.nodes = [node for node in graph.nodes if id(node) not in gone]
    return len(folded)


def nodes_before(graph: Graph, names: Iterable[str], known: Collection[str] = ()) -> list[Node]:
    """The nodes that ``names`` depend on, in order; values in ``known`` count as given."""
    needed = {name for name in names if name not in known}
    found: list[Node] = []
    for node in reversed(graph.nodes):
        if any(name in needed for name in node.outputs):
            found.append(node)
            needed.update(name for name in node_reads(node) if name not in known)
    return found[::-1]


def submodel(model: Model, inputs: list[ValueInfo], outputs: list[ValueInfo]) -> Model:
    """The part of ``model`` between ``inputs`` (any values) and ``outputs``, sharing nodes and constants with it."""
    given = {info.name for info in inputs}
    nodes = nodes_before(model.graph, [info.name for info in outputs], given)
    graph = Graph(model.graph.name, nodes, model.graph.initializers, inputs, outputs)
    graph.prune()
    return Model(graph, model.opsets, model.ir_version)


_INTEGER_OPERANDS = {
    **dict.fromkeys(("Reshape", "Expand", "Pad", "ReduceMean", "Squeeze", "Unsqueeze", "Tile"), (1,)),
    "Slice": (1, 2, 3, 4),
    "Resize": (3,),
}
"""Inputs that ONNX defines as int64: shapes, amounts, axes."""


def fold_constants(model: Model, readers: Collection[str]) -> int:
    """Operands of the operators ``readers`` that are computed from constants alone become constants; returns how many.

    Exporters that do not optimise compute biases, factors, shapes and axes in the graph. Requires: the graph is in float32,
    its constants are initializers.
    """
    graph = model.graph
    constant = set(graph.initializers)
    wanted: dict[DType, dict[str, None]] = {DType.FLOAT: {}, DType.INT64: {}}
    for node in graph.nodes:
        reads = list(node_reads(node))
        if reads and all(name in constant for name in reads):
            constant.update(node.outputs)
            continue
        if node.op_type not in readers:
            continue
        for place, name in enumerate(node.inputs):
            if name in constant and name not in graph.initializers:
                is_integer = place in _INTEGER_OPERANDS.get(node.op_type, ())
                wanted[DType.INT64 if is_integer else DType.FLOAT][name] = None
    folded: dict[str, NDArray[Any]] = {}
    for dtype, names in wanted.items():
        folded |= evaluate_values(model, list(names), dtype, {}) if names else {}
    graph.nodes = [node for node in graph.nodes if not folded.keys() & set(node.outputs)]
    graph.initializers |= {name: Tensor.from_numpy(name, array) for name, array in folded.items()}
    return len(folded)


def evaluate_values(
    model: Model, names: Collection[str], dtype: DType, known: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """The values called ``names``, as ``dtype``, computed by ONNX Runtime.

    Requires: they depend on constants and on ``known`` values only. Raises ModelError where they cannot be computed.
    """
    from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

    graph = model.graph
    used = graph.names()
    # Graph outputs need a type, which is not known here: a Cast settles it.
    results = {fresh_name(f"{name}_evaluated", used): name for name in names}
    casts = [Node("Cast", [name], [result], {"to": int(dtype)}) for result, name in results.items()]
    constants = {**graph.initializers, **{name: Tensor.from_numpy(name, value) for name, value in known.items()}}
    outputs = [ValueInfo(result, dtype, None) for result in results]
    part = Graph("constants", [*nodes_before(graph, names, known), *casts], constants, [], outputs)
    part.prune()
    session = OnnxRuntimeSession.from_graph(encode_model(Model(part, model.opsets, model.ir_version)))
    computed = session.run({})
    return {name: computed[result] for result, name in results.items()}
