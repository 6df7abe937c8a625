"""The files that an ONNX model's constants are in, found without reading the constants: only the heads of fields are read."""

from __future__ import annotations

import os
from collections.abc import Iterator

from cmx4trt.base.files import open_file
from cmx4trt.ir import wire

_GRAPH, _INITIALIZER, _EXTERNAL_DATA = 7, 5, 13
"""Fields of ModelProto, GraphProto and TensorProto (onnx.proto); no exporter keeps constants of operators in files."""
_HEAD = 20
"""Bytes of a field's number and length, at most: two numbers of 10 bytes."""


def external_files(path: str) -> list[str]:
    """Names relative to the model's folder, sorted. Raises OSError, and ValueError where the file is no ONNX model."""
    with open_file(path) as stream:
        descriptor, names = stream.fileno(), set()
        for graph in _messages(descriptor, (0, os.fstat(descriptor).st_size), _GRAPH):
            for tensor in _messages(descriptor, graph, _INITIALIZER):
                for begin, end in _messages(descriptor, tensor, _EXTERNAL_DATA):
                    names.add(_location(os.pread(descriptor, end - begin, begin)))
    found = sorted(os.path.normpath(name) for name in names if name)
    if any(os.path.isabs(name) or name.split("/")[0] == ".." for name in found):
        raise ValueError("it points to an external file outside its folder")
    return found


def _messages(descriptor: int, within: tuple[int, int], wanted: int) -> Iterator[tuple[int, int]]:
    """Where the messages with the number ``wanted`` begin and end, in a message that lies in the bytes ``within``."""
    position, end = within
    while position < end:
        head = memoryview(os.pread(descriptor, min(_HEAD, end - position), position))
        tag, place = wire.read_varint(head, 0)
        number, kind = tag >> 3, tag & 7
        length = {wire.FIXED32: 4, wire.FIXED64: 8}.get(kind, 0)
        if kind in (wire.VARINT, wire.BYTES):
            value, place = wire.read_varint(head, place)
            length = value if kind == wire.BYTES else 0
        elif not length:
            raise wire.WireError(f"a field has the unknown wire type {kind}")
        begin = position + place
        position = begin + length
        if number == 0 or position > end:
            raise wire.WireError(f"a field of {length} bytes is cut off after {end - begin}")
        if number == wanted and kind == wire.BYTES:
            yield begin, position


def _location(entry: bytes) -> str:
    """The value of a StringStringEntryProto whose key is 'location'; empty for another key."""
    fields = {number: wire.text(payload) for number, _, payload in wire.read_fields(memoryview(entry))}
    return fields.get(2, "") if fields.get(1) == "location" else ""
