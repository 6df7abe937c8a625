"""Makes QuantizeLinear of float16 compute in float32, for a runtime whose own float16 arithmetic is wrong.

ONNX Runtime's CPU kernel up to 1.29 truncates float16 to integers (checked: 1.20.0 to 1.29.0; 1.30.0 rounds to nearest even, as
ONNX specifies), and Python 3.10 has none newer than 1.23. In float32, which represents every float16 exactly, all versions
round.
"""

from __future__ import annotations

from collections.abc import Iterator

from cmx4trt.ir import wire
from cmx4trt.ir.decoding import ExternalData, decode_node
from cmx4trt.ir.encoding import encode_node
from cmx4trt.ir.model import DType, Node, fresh_name

_GRAPH, _NODE, _INITIALIZER = 7, 1, 5
"""Fields of ModelProto and GraphProto (onnx.proto)."""
_REDUCED = (DType.FLOAT16, DType.BFLOAT16)


def quantize_in_float32(message: bytes) -> bytes:
    """A ModelProto whose QuantizeLinear nodes with a float16 or bfloat16 scale read float32 casts; otherwise the same bytes.

    Requires: the message comes from ``encode_model``, and scales are constants, as ``insert_qdq`` writes them.
    """
    if b"QuantizeLinear" not in message:
        return message
    fields = wire.read_fields(memoryview(message))
    return b"".join(_field(n, value, _edited(payload) if n == _GRAPH else payload) for n, value, payload in fields)


def _edited(graph: memoryview) -> bytes:
    """The GraphProto with the Cast nodes in it."""
    fields = list(wire.read_fields(graph))
    nodes = [decode_node(payload, ExternalData(None, _no_file)) for number, _, payload in fields if number == _NODE]
    constants = dict(_name_and_type(payload) for number, _, payload in fields if number == _INITIALIZER)
    reduced = {name for name, dtype in constants.items() if dtype in _REDUCED}
    used = {*constants, *(name for node in nodes for name in (node.name, *node.inputs, *node.outputs))}
    parts, waiting = [], iter(nodes)
    for number, value, payload in fields:
        node = next(waiting) if number == _NODE else None
        if node is not None and node.op_type == "QuantizeLinear" and node.inputs[1] in reduced:
            parts += [wire.bytes_field(_NODE, encode_node(part)) for part in _in_float32(node, used)]
        else:
            parts.append(_field(number, value, payload))
    return b"".join(parts)


def _in_float32(node: Node, used: set[str]) -> Iterator[Node]:
    """Casts of the node's value and scale, followed by the node."""
    for index in (0, 1):
        cast = fresh_name(f"{node.inputs[index]}_float32", used)
        yield Node("Cast", [node.inputs[index]], [cast], {"to": int(DType.FLOAT)}, cast)
        node.inputs[index] = cast
    yield node


def _name_and_type(tensor: memoryview) -> tuple[str, int]:
    """The element type of a TensorProto."""
    name, dtype = "", 0
    for number, value, payload in wire.read_fields(tensor):
        if number == 2:
            dtype = value
        elif number == 8:
            name = wire.text(payload)
    return name, dtype


def _field(number: int, value: int, payload: bytes | memoryview) -> bytes:
    return wire.bytes_field(number, payload) if len(payload) else wire.int_field(number, value)


def _no_file(path: str) -> memoryview:
    raise ValueError(f"a node's constant is in the file '{path}', expected it inside the node")
