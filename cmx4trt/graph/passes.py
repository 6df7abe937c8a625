"""Passes that serve every model: each says what it requires, what it ensures, and how often it fired."""

from __future__ import annotations

from cmx4trt.ir.model import DType, Graph, Node, Tensor

_PASS_THROUGH = {"Identity", "Dropout"}
"""Operators whose first output is their first input at inference time."""


def lift_constants(graph: Graph) -> int:
    """Turn Constant nodes that hold a tensor into initializers. Ensures: such constants are found in one place."""
    lifted: list[Node] = []
    for node in graph.nodes:
        value = node.attributes.get("value")
        if node.op_type == "Constant" and isinstance(value, Tensor):
            name = node.outputs[0]
            graph.initializers[name] = Tensor(name, value.dtype, value.dims, value.data)
            lifted.append(node)
    _remove(graph, lifted)
    return len(lifted)


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
    """Remove Casts to a floating-point type: a precision is chosen later, for the whole graph.

    Requires: what is cast is floating-point itself (as in files that were converted to float16). One that makes a graph
    output stays.
    """
    outputs = {info.name for info in graph.outputs}
    float_codes = (DType.FLOAT, DType.FLOAT16, DType.BFLOAT16, DType.DOUBLE)
    dropped = [
        node
        for node in graph.nodes
        if node.op_type == "Cast" and node.attributes.get("to") in float_codes and node.outputs[0] not in outputs
    ]
    for node in dropped:
        graph.rename_reads(node.outputs[0], node.inputs[0])
    _remove(graph, dropped)
    return len(dropped)


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
