"""The protobuf wire format, as far as ONNX files use it.

Source: https://protobuf.dev/programming-guides/encoding/. Reading never copies: a length-delimited field comes as a
view of the input.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10


class WireError(ValueError):
    """The bytes are not a protobuf message."""


def read_varint(data: memoryview, position: int) -> tuple[int, int]:
    """The unsigned varint at ``position`` and the position after it."""
    value = shift = 0
    for offset in range(_MAX_VARINT_BYTES):
        if position + offset >= len(data):
            raise WireError("the data ends inside a number")
        byte = data[position + offset]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + offset + 1
        shift += 7
    raise WireError("a number is longer than 10 bytes")


def read_fields(data: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """The fields of one message: (field number, varint value, payload view); the unused one of the two is 0 or empty.

    Raises WireError on anything that is not a message, including a length beyond the end.
    """
    position, end, empty = 0, len(data), data[:0]
    while position < end:
        tag = data[position]
        position += 1
        if tag >= 0x80:
            tag, position = read_varint(data, position - 1)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise WireError("a field has number 0")
        if kind == VARINT:
            value, position = read_varint(data, position)
            yield number, value, empty
            continue
        if kind == BYTES:
            length, position = read_varint(data, position)
        elif kind == FIXED32:
            length = 4
        elif kind == FIXED64:
            length = 8
        else:
            raise WireError(f"a field has the unknown wire type {kind}")
        if position + length > end:
            raise WireError(f"a field of {length} bytes is cut off after {end - position}")
        yield number, 0, data[position : position + length]
        position += length


def read_varints(data: memoryview) -> Iterator[int]:
    """The numbers of a packed field, as signed 64-bit integers."""
    position = 0
    while position < len(data):
        value, position = read_varint(data, position)
        yield signed(value)


def signed(value: int) -> int:
    """The signed integer that an unsigned 64-bit varint represents."""
    return value - (1 << 64) if value >= 1 << 63 else value


def varint(value: int) -> bytes:
    """The bytes of a (signed or unsigned) 64-bit integer as a varint."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def int_field(number: int, value: int) -> bytes:
    """A varint field."""
    return varint(number << 3 | VARINT) + varint(value)


def bytes_field(number: int, payload: bytes | bytearray | memoryview) -> bytes:
    """A length-delimited field."""
    return b"".join((varint(number << 3 | BYTES), varint(len(payload)), payload))


def text_field(number: int, text: str) -> bytes:
    """A string field; surrogate escapes become the bytes they were read from."""
    return bytes_field(number, text.encode("utf-8", "surrogateescape"))


def float_field(number: int, value: float) -> bytes:
    """A 32-bit float field."""
    return varint(number << 3 | FIXED32) + struct.pack("<f", value)


def packed_ints(number: int, values: Iterable[int]) -> bytes:
    """A packed field of varints; nothing if there are no values."""
    payload = b"".join(varint(value) for value in values)
    return bytes_field(number, payload) if payload else b""


def text(payload: memoryview) -> str:
    """The string of a field; bytes that are not UTF-8 survive as surrogate escapes."""
    return str(payload, "utf-8", "surrogateescape")
