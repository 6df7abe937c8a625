"""A prepared graph's own arithmetic, in float32: what runtimes on the CPU do not compute in float16 or bfloat16 is emulated.

Engines multiply numbers of the operator's type, add the products up in float32, and round each operator's result to its type.
ONNX Runtime's CPU provider has no bfloat16 kernels, and of float16 it computes neighbours in float32 without rounding in
between. A graph of float32 operators with a pair of Casts behind each of them computes what engines do
(docs/decisions/060-faithful-arithmetic.md).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cmx4trt.graph.precision import NO_FLOAT_OUTPUT, cast_tensor
from cmx4trt.ir.model import DType, Graph, Model, Node, Tensor, ValueInfo, fresh_name

REDUCED = (DType.FLOAT16, DType.BFLOAT16)

EXACT = {
    *("Abs", "Concat", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Max", "MaxPool", "Min", "Neg"),
    *("ReduceMax", "ReduceMin", "Relu", "Reshape", "Slice", "Split", "Squeeze", "TopK", "Transpose", "Unsqueeze"),
}
"""Operators whose results are among their inputs, or those with another sign, or 0: of rounded numbers they make rounded ones."""
CAST_TAKES_BFLOAT16 = 13
PRODUCTS = frozenset(("Conv", "Gemm", "MatMul"))
"""Operators whose int8 kernels multiply the integers themselves: what DequantizeLinear gives them is never rounded."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """Of a type: a rounded number x is off by at most ``unit`` |x| + ``least``, the latter among its subnormal numbers."""

    unit: float
    least: float


ROUNDINGS: Mapping[DType, Rounding] = {
    DType.FLOAT: Rounding(2.0**-24, 2.0**-150),
    DType.FLOAT16: Rounding(2.0**-11, 2.0**-25),
    DType.BFLOAT16: Rounding(2.0**-8, 2.0**-134),
}
"""IEEE 754-2008, table 3.5; bfloat16 is float32 with 8 significant bits."""


def is_reduced(model: Model) -> bool:
    """Whether any constant of ``model`` is float16 or bfloat16."""
    return any(tensor.dtype in REDUCED for tensor in model.graph.initializers.values())


def reduced_values(graph: Graph) -> dict[str, DType]:
    """The values, constants among them, that are float16 or bfloat16."""
    typed: list[ValueInfo | Tensor] = [*graph.inputs, *graph.initializers.values()]
    types = {item.name: item.dtype for item in typed if item.dtype in REDUCED}
    for node in graph.nodes:
        dtype = _result_type(node, types)
        if dtype is not None:
            types.update({name: dtype for name in node.outputs if name})
    return types


def _result_type(node: Node, types: Mapping[str, DType]) -> DType | None:
    """The reduced type of the node's results; None where they are of another."""
    if node.op_type == "Cast":
        wanted = node.attributes["to"]
        return DType(wanted) if wanted in REDUCED else None  # type: ignore[arg-type]
    if node.op_type == "DequantizeLinear":
        return types.get(node.inputs[1])
    if node.op_type in NO_FLOAT_OUTPUT:
        return None
    return next((types[name] for name in node.inputs if name in types), None)


def faithful(model: Model) -> Model:
    """A float32 model of the same inputs and outputs that rounds wherever ``model`` computes in float16 or bfloat16.

    Values keep their names, and hold numbers of the types that they have in ``model``. Overflow gives infinity. ``model`` is
    not touched.
    """
    copy = model.copy()
    graph = copy.graph
    types = reduced_values(graph)
    used = graph.names()
    for name in types.keys() & graph.initializers.keys():
        graph.initializers[name] = cast_tensor(graph.initializers[name], DType.FLOAT, name)
    _widen_inputs(graph, types, used)
    unrounded = _integer_factors(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        nodes.append(node)
        dtype = None if node.outputs[0] in unrounded else types.get(node.outputs[0])
        if node.op_type == "Cast" and node.attributes["to"] in REDUCED:
            node.attributes["to"] = int(DType.FLOAT)
        elif node.op_type in EXACT:
            continue
        if dtype is not None:
            nodes += round_outputs(node, dtype, used)
    graph.nodes = nodes
    _narrow_outputs(graph, types, used)
    return copy


Rounder = Callable[[str, str, DType, set[str]], list[Node]]
"""Gives nodes that round a float32 value to a type: the value, the result (float32 again), the type, the names in use."""


def round_outputs(node: Node, dtype: DType, used: set[str], rounder: Rounder | None = None) -> list[Node]:
    """Nodes that round the float32 results of ``node`` to ``dtype``, and take their names."""
    nodes = []
    for index, name in enumerate(node.outputs):
        if name:
            exact = fresh_name(f"{name}_exact", used)
            node.outputs[index] = exact
            nodes += (rounder or round_by_cast)(exact, name, dtype, used)
    return nodes


def rounder_of(opset: int) -> Rounder:
    """What rounds in graphs of an operator set: Cast takes bfloat16 from 13 on (onnx/docs/Changelog.md)."""
    return round_by_cast if opset >= CAST_TAKES_BFLOAT16 else _round_without_bfloat16


def _round_without_bfloat16(value: str, result: str, dtype: DType, used: set[str]) -> list[Node]:
    """bfloat16 by T. J. Dekker's splitting ("A Floating-Point Technique for Extending the Available Precision", 1971): with
    c = (2^16 + 1) x, c - (c - x) is x to 8 bits; x above 5e33 becomes NaN."""
    if dtype is not DType.BFLOAT16:
        return round_by_cast(value, result, dtype, used)
    factor, scaled, rest = (fresh_name(f"{result}_{part}", used) for part in ("factor", "scaled", "rest"))
    constant = Tensor(factor, DType.FLOAT, (), struct.pack("<f", 2.0**16 + 1))
    return [
        Node("Constant", [], [factor], {"value": constant}, factor),
        Node("Mul", [value, factor], [scaled], {}, scaled),
        Node("Sub", [scaled, value], [rest], {}, rest),
        Node("Sub", [scaled, rest], [result], {}, fresh_name(f"{result}_float", used)),
    ]


def round_by_cast(value: str, result: str, dtype: DType, used: set[str]) -> list[Node]:
    """A pair of Casts, there and back."""
    rounded = fresh_name(f"{value}_{dtype.name.lower()}", used)
    return [
        Node("Cast", [value], [rounded], {"to": int(dtype)}, rounded),
        Node("Cast", [rounded], [result], {"to": int(DType.FLOAT)}, fresh_name(f"{result}_float", used)),
    ]


def _integer_factors(graph: Graph) -> set[str]:
    """What DequantizeLinear gives to nothing but products."""
    readers = graph.consumers()
    outputs = {info.name for info in graph.outputs}
    dequantized = {node.outputs[0] for node in graph.nodes if node.op_type == "DequantizeLinear"} - outputs
    return {name for name in dequantized if all(node.op_type in PRODUCTS for node in readers.get(name, ()))}


def _widen_inputs(graph: Graph, types: Mapping[str, DType], used: set[str]) -> None:
    casts = []
    for info in graph.inputs:
        if info.name in types:
            wide = fresh_name(f"{info.name}_float", used)
            graph.rename_reads(info.name, wide)
            casts.append(Node("Cast", [info.name], [wide], {"to": int(DType.FLOAT)}, wide))
    graph.nodes = casts + graph.nodes


def _narrow_outputs(graph: Graph, types: Mapping[str, DType], used: set[str]) -> None:
    """Outputs of a reduced type are of that type again."""
    for info in graph.outputs:
        if info.name in types:
            name, wide = info.name, fresh_name(f"{info.name}_wide", used)
            graph.rename_value(name, wide)
            info.name = name
            graph.nodes.append(Node("Cast", [wide], [name], {"to": int(types[name])}, fresh_name(f"{name}_cast", used)))
