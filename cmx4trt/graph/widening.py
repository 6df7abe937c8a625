"""A file of any floating-point type as the float32 network it stands for: a precision is chosen later, for the whole graph."""

from __future__ import annotations

from cmx4trt.graph.passes import drop_float_casts
from cmx4trt.graph.precision import cast_tensor
from cmx4trt.ir.model import DType, Graph, Tensor

_NARROW = (DType.FLOAT16, DType.BFLOAT16)
PRECISIONS = {DType.FLOAT: "fp32", DType.FLOAT16: "fp16", DType.BFLOAT16: "bf16"}


def widen_floats(graph: Graph) -> str:
    """Turn float16 and bfloat16 constants, inputs and outputs of ``graph`` to float32, exactly, and drop the casts between them.

    Requires: constants are initializers. Returns what the file computes in: 'bf16', 'fp16' or 'fp32', the narrowest.
    """
    found = _narrowest(graph)
    drop_float_casts(graph)
    if found is not DType.FLOAT:
        _widen(graph)
    return PRECISIONS[found]


def _narrowest(graph: Graph) -> DType:
    dtypes = {tensor.dtype for tensor in graph.initializers.values()} | {info.dtype for info in graph.inputs}
    dtypes |= {node.attributes.get("to") for node in graph.nodes if node.op_type == "Cast"}  # type: ignore[misc]
    return next((dtype for dtype in (DType.BFLOAT16, DType.FLOAT16) if dtype in dtypes), DType.FLOAT)


def _widen(graph: Graph) -> None:
    for name, tensor in graph.initializers.items():
        if tensor.dtype in _NARROW:
            graph.initializers[name] = cast_tensor(tensor, DType.FLOAT, name)
    for info in (*graph.inputs, *graph.outputs):
        if info.dtype in _NARROW:
            info.dtype = DType.FLOAT
    for node in graph.nodes:
        if node.attributes.get("to") in _NARROW:
            node.attributes["to"] = int(DType.FLOAT)
        value = node.attributes.get("value")
        if isinstance(value, Tensor) and value.dtype in _NARROW:
            node.attributes["value"] = cast_tensor(value, DType.FLOAT, value.name)
        for body in node.subgraphs():
            _widen(body)
