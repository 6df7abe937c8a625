"""The wire format against protobuf itself, and what is no message."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2
from hypothesis import given
from hypothesis import strategies as st

from cmx4trt.ir import wire

INTEGERS = st.integers(-(2**63), 2**64 - 1)


@given(INTEGERS)
def test_a_varint_is_read_back(value: int) -> None:
    encoded = wire.varint(value)
    assert wire.read_varint(memoryview(encoded + b"\0"), 0) == (value % 2**64, len(encoded))
    assert list(wire.read_varints(memoryview(encoded))) == [value if value < 2**63 else value - 2**64]


@given(st.text(max_size=300), st.integers(-(2**31), 2**31 - 1))
def test_protobuf_reads_what_is_written_and_the_reverse(name: str, number: int) -> None:
    """FieldDescriptorProto: name is field 1, a string; number is field 3, an int32."""
    field = descriptor_pb2.FieldDescriptorProto(name=name, number=number)
    assert wire.text_field(1, name) + wire.int_field(3, number) == field.SerializeToString()
    read = {key: (wire.signed(value), bytes(data)) for key, value, data in read_all(field.SerializeToString())}
    assert read == {1: (0, name.encode()), 3: (number, b"")}


def test_packed_numbers_and_floats_are_protobufs() -> None:
    """SourceCodeInfo.Location: path is field 1, packed; UninterpretedOption's double has wire type 1."""
    location = descriptor_pb2.SourceCodeInfo.Location(path=[1, 300, 2**31 - 1])
    assert wire.packed_ints(1, location.path) == location.SerializeToString()
    assert wire.packed_ints(1, []) == b""
    option = descriptor_pb2.UninterpretedOption(double_value=0.5)
    assert [(key, len(data)) for key, _, data in read_all(option.SerializeToString())] == [(6, 8)]
    assert [(key, bytes(data)) for key, _, data in read_all(wire.float_field(2, 0.5))] == [(2, b"\0\0\0\x3f")]


def test_text_that_is_not_utf8_survives() -> None:
    [(number, _, payload)] = read_all(wire.bytes_field(7, b"\xff/caf\xc3\xa9"))
    assert wire.text_field(number, wire.text(payload)) == wire.bytes_field(7, b"\xff/caf\xc3\xa9")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"\x08", "ends inside a number"),
        (b"\x08\x80\x80", "ends inside a number"),
        (b"\x08" + b"\xff" * 11, "longer than 10 bytes"),
        (b"\x00\x01", "number 0"),
        (b"\x0b", "unknown wire type 3"),
        (b"\x0a\x05abc", "a field of 5 bytes is cut off after 3"),
        (b"\x0d\0\0", "a field of 4 bytes is cut off after 2"),
    ],
)
def test_what_is_no_message_is_an_error(message: bytes, reason: str) -> None:
    with pytest.raises(wire.WireError, match=reason):
        read_all(message)


def read_all(message: bytes) -> list[tuple[int, int, memoryview]]:
    return list(wire.read_fields(memoryview(message)))
