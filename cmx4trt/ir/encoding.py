"""From ``ir.model`` objects to protobuf messages; the messages and field numbers are those of onnx.proto."""

from __future__ import annotations

import struct

from cmx4trt.ir import wire
from cmx4trt.ir.model import Attribute, Graph, Node, Tensor, ValueInfo

_FLOAT, _INT, _STRING, _TENSOR, _GRAPH, _FLOATS, _INTS, _STRINGS, _TENSORS, _GRAPHS = range(1, 11)
"""AttributeProto.AttributeType."""


def message_of_graph(graph: Graph, constants: dict[str, Tensor], inline_bytes: int | None) -> bytes:
    """A GraphProto; constants above ``inline_bytes`` (None: no limit) are external in it and put into ``constants``."""
    parts = [wire.bytes_field(1, encode_node(node)) for node in graph.nodes]
    parts.append(wire.text_field(2, graph.name or "graph"))
    for tensor in graph.initializers.values():
        inside = inline_bytes is None or len(tensor.data) <= inline_bytes
        parts.append(wire.bytes_field(5, _encode_tensor(tensor, inside)))
        if not inside:
            constants[tensor.name] = tensor
    parts += [wire.bytes_field(11, _encode_value_info(info)) for info in graph.inputs]
    parts += [wire.bytes_field(12, _encode_value_info(info)) for info in graph.outputs]
    return b"".join(parts)


def encode_node(node: Node) -> bytes:
    """A NodeProto."""
    parts = [wire.text_field(1, name) for name in node.inputs]
    parts += [wire.text_field(2, name) for name in node.outputs]
    parts += [wire.text_field(3, node.name), wire.text_field(4, node.op_type)]
    parts += [wire.bytes_field(5, _encode_attribute(name, value)) for name, value in node.attributes.items()]
    if node.domain:
        parts.append(wire.text_field(7, node.domain))
    return b"".join(parts)


def _encode_attribute(name: str, value: Attribute) -> bytes:
    head = wire.text_field(1, name)
    if isinstance(value, float):
        return head + wire.float_field(2, value) + wire.int_field(20, _FLOAT)
    if isinstance(value, int):
        return head + wire.int_field(3, value) + wire.int_field(20, _INT)
    if isinstance(value, str):
        return head + wire.text_field(4, value) + wire.int_field(20, _STRING)
    if isinstance(value, Tensor):
        return head + wire.bytes_field(5, _encode_tensor(value, True)) + wire.int_field(20, _TENSOR)
    if isinstance(value, Graph):
        return head + wire.bytes_field(6, message_of_graph(value, {}, None)) + wire.int_field(20, _GRAPH)
    return head + _encode_list(value)


def _encode_list(values: list[int] | list[float] | list[str] | list[Tensor] | list[Graph]) -> bytes:
    first = values[0] if values else 0
    if isinstance(first, float):
        payload = b"".join(struct.pack("<f", v) for v in values)
        return wire.bytes_field(7, payload) + wire.int_field(20, _FLOATS)
    if isinstance(first, str):
        return b"".join(wire.text_field(9, v) for v in values) + wire.int_field(20, _STRINGS)  # type: ignore[arg-type]
    if isinstance(first, Tensor):
        items = [wire.bytes_field(10, _encode_tensor(v, True)) for v in values]  # type: ignore[arg-type]
        return b"".join(items) + wire.int_field(20, _TENSORS)
    if isinstance(first, Graph):
        items = [wire.bytes_field(11, message_of_graph(v, {}, None)) for v in values]  # type: ignore[arg-type]
        return b"".join(items) + wire.int_field(20, _GRAPHS)
    return wire.packed_ints(8, values) + wire.int_field(20, _INTS)  # type: ignore[arg-type]


def _encode_tensor(tensor: Tensor, inside: bool) -> bytes:
    parts = [wire.packed_ints(1, tensor.dims), wire.int_field(2, tensor.dtype), wire.text_field(8, tensor.name)]
    if inside:
        parts.append(wire.bytes_field(9, tensor.data))
    else:
        # The location is only a label: users of an EncodedGraph get the bytes in memory.
        entries = {"location": "constants", "offset": "0", "length": str(len(tensor.data))}
        for key, value in entries.items():
            parts.append(wire.bytes_field(13, wire.text_field(1, key) + wire.text_field(2, value)))
        parts.append(wire.int_field(14, 1))
    return b"".join(parts)


def _encode_value_info(info: ValueInfo) -> bytes:
    tensor_type = wire.int_field(1, info.dtype)
    if info.dims is not None:
        tensor_type += wire.bytes_field(2, b"".join(wire.bytes_field(1, _encode_dim(dim)) for dim in info.dims))
    return wire.text_field(1, info.name) + wire.bytes_field(2, wire.bytes_field(1, tensor_type))


def _encode_dim(dim: int | str | None) -> bytes:
    if dim is None:
        return b""
    return wire.text_field(2, dim) if isinstance(dim, str) else wire.int_field(1, dim)
