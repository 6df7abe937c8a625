"""Passes that serve every model: each says what it requires, what it ensures, and how often it fired."""

from __future__ import annotations

import struct

from cmx4trt.ir.model import DType, Graph, Node, Tensor

_PASS_THROUGH = {"Identity", "Dropout"}
"""Operators whose first output is their first input at inference time."""


def lift_constants(graph: Graph) -> int:
    """Turn Constant nodes into initializers (those of strings stay). Ensures: constants are found in one place."""
    lifted: list[Node] = []
    for node in graph.nodes:
        value = _constant_of(node)
        if value is not None:
            name = node.outputs[0]
            graph.initializers[name] = value.renamed(name)
            lifted.append(node)
    _remove(graph, lifted)
    return len(lifted)


_NUMBERS = {"value_int": "q", "value_ints": "q", "value_float": "f", "value_floats": "f"}
"""Attributes of Constant that hold plain numbers -> their format (struct); scalars, or vectors where they end in s."""


def _constant_of(node: Node) -> Tensor | None:
    if node.op_type != "Constant":
        return None
    tensor = node.attributes.get("value")
    if isinstance(tensor, Tensor):
        return tensor
    for key, code in _NUMBERS.items():
        if key in node.attributes:
            value = node.attributes[key]
            values = value if isinstance(value, list) else [value]
            dtype = DType.INT64 if code == "q" else DType.FLOAT
            dims = (len(values),) if key.endswith("s") else ()
            return Tensor("", dtype, dims, struct.pack(f"<{len(values)}{code}", *values))
    return None


def drop_identities(graph: Graph) -> int:
    """Remove Identity and inference-time Dropout. Requires: nobody reads Dropout's mask (else that node stays).

    An Identity of a constant gives its readers the constant itself; one that makes a graph output stays.
    """
    outputs = {info.name for info in graph.outputs}
    read = set(graph.consumers())
    dropped = [
        node
        for node in graph.nodes
        if node.op_type in _PASS_THROUGH
        and node.outputs[0] not in outputs
        and not any(name in read or name in outputs for name in node.outputs[1:])
    ]
    for node in dropped:
        graph.rename_reads(node.outputs[0], node.inputs[0])
    _remove(graph, dropped)
    return len(dropped)


def drop_float_casts(graph: Graph) -> int:
    """Remove Casts of floats to floats: a precision is chosen later, for the whole graph. One that makes a graph output stays."""
    outputs, floats = {info.name for info in graph.outputs}, float_values(graph)
    dropped = [
        node
        for node in graph.nodes
        if node.op_type in ("Cast", "CastLike")
        and node.inputs[0] in floats
        and node.outputs[0] in floats
        and node.outputs[0] not in outputs
    ]
    for node in dropped:
        graph.rename_reads(node.outputs[0], node.inputs[0])
    _remove(graph, dropped)
    return len(dropped)


_FLOATS = (DType.FLOAT, DType.FLOAT16, DType.BFLOAT16)
_NO_FLOATS = {
    *("Shape", "Size", "ArgMax", "ArgMin", "NonZero", "NonMaxSuppression", "QuantizeLinear"),
    *("Not", "And", "Or", "Xor", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "IsNaN", "IsInf"),
}
"""Operators whose results are integers or truth values whatever they read."""
_TYPED_BY = {"Where": 1, "CastLike": 1, "OneHot": 2, "DequantizeLinear": 1}
"""Which input's type the result has, where it is not the first one's."""
_ONE_FLOAT = {"TopK", "Dropout", "MaxPool"}
"""Operators of several results, of which the first is of the input's type."""


def float_values(graph: Graph) -> set[str]:
    """The values of the types that a precision can choose (not float64); those of nodes with subgraphs are left out."""
    floats = {info.name for info in graph.inputs if info.dtype in _FLOATS}
    floats |= {name for name, tensor in graph.initializers.items() if tensor.dtype in _FLOATS}
    for node in graph.nodes:
        if _gives_floats(node, floats):
            floats.update(node.outputs[:1] if node.op_type in _ONE_FLOAT else filter(None, node.outputs))
    return floats


def _gives_floats(node: Node, floats: set[str]) -> bool:
    if node.op_type == "Cast":
        return node.attributes.get("to") in _FLOATS
    if node.op_type in ("Constant", "ConstantOfShape"):
        value = node.attributes.get("value")
        return value.dtype in _FLOATS if isinstance(value, Tensor) else node.op_type == "ConstantOfShape"
    if node.op_type in _NO_FLOATS or any(True for _ in node.subgraphs()):
        return False
    place = _TYPED_BY.get(node.op_type, 0)
    return len(node.inputs) > place and node.inputs[place] in floats


def absorb_padding(graph: Graph) -> int:
    """Move constant zero padding of H and W into the only convolution that reads it.

    Requires: constants are initializers. TensorFlow's strided convolutions arrive as Pad followed by an unpadded Conv.
    """
    consumers = graph.consumers()
    absorbed: list[Node] = []
    for node in graph.nodes:
        readers = consumers.get(node.outputs[0], [])
        if node.op_type != "Pad" or len(readers) != 1 or readers[0].op_type != "Conv":
            continue
        conv, pads = readers[0], _zero_pads(graph, node)
        if pads is None or conv.inputs[0] != node.outputs[0] or conv.attributes.get("auto_pad", "NOTSET") != "NOTSET":
            continue
        own = conv.ints("pads", [0] * (len(pads)))
        conv.attributes["pads"] = [a + b for a, b in zip(own, pads, strict=True)]
        conv.inputs[0] = node.inputs[0]
        absorbed.append(node)
    _remove(graph, absorbed)
    return len(absorbed)


def _zero_pads(graph: Graph, node: Node) -> list[int] | None:
    """The [H begin, W begin, H end, W end] padding of a Pad node that pads H and W of [N, C, H, W] with zeros, else None."""
    if node.attributes.get("mode", "constant") != "constant" or len(node.inputs) > 3:
        return None
    if len(node.inputs) >= 2:  # from opset 11 on the amounts are an input
        amounts = graph.initializers.get(node.inputs[1])
        fill = graph.initializers.get(node.inputs[2]) if len(node.inputs) == 3 and node.inputs[2] else None
        if amounts is None or (len(node.inputs) == 3 and node.inputs[2] and fill is None):
            return None
        pads = [int(v) for v in amounts.numpy().reshape(-1)]
        value = float(fill.numpy().reshape(-1)[0]) if fill is not None else 0.0
    else:
        pads = node.ints("pads", [])
        value = float(node.attributes.get("value", 0.0))  # type: ignore[arg-type]
    if value != 0.0 or len(pads) != 8 or any(pads[i] for i in (0, 1, 4, 5)) or min(pads) < 0:
        return None
    return [pads[2], pads[3], pads[6], pads[7]]


def _remove(graph: Graph, nodes: list[Node]) -> None:
    gone = {id(node) for node in nodes}
    graph.nodes = [node for node in graph.nodes if id(node) not in gone]
