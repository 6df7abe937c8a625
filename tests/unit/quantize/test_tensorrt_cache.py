"""TensorRT's calibration cache, both ways."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmx4trt.errors import DataError
from cmx4trt.quantize.tensorrt_cache import DEFAULT_HEADER, encode_cache, parse_cache

names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1)
scales = st.dictionaries(names, st.floats(0, 2.0**100, width=32, exclude_min=True), min_size=1)


@given(scales)
def test_round_trip_is_bit_equal(values: dict[str, float]) -> None:
    again = parse_cache(encode_cache(values), "it")
    assert again.header == DEFAULT_HEADER
    assert {name: struct.pack("<f", scale) for name, scale in again.scales.items()} == {
        name: struct.pack("<f", scale) for name, scale in values.items()
    }


def test_a_tensor_that_was_always_zero_gets_a_scale() -> None:
    assert parse_cache(encode_cache({"dead": 0.0}), "it").scales == {"dead": 1.0}


def test_entries_of_nvidias_files() -> None:
    """Values decoded by hand: 0x3f810204 is 128/127, the scale of pixels in -128 .. 128."""
    content = b"TRT-8001-EntropyCalibration2\ninput_tensor_0: 3f810204\n(Unnamed Layer* 3) [Conv]: x: 3caa54fc\n\n"
    cache = parse_cache(content, "it")
    assert cache.scales["input_tensor_0"] * 127 == pytest.approx(128.0, rel=1e-6)
    assert cache.scales["(Unnamed Layer* 3) [Conv]: x"] * 127 == pytest.approx(2.640645, rel=1e-6)
    assert cache.header == "TRT-8001-EntropyCalibration2"


def test_windows_line_ends_and_capital_digits() -> None:
    assert parse_cache(b"TRT-100100-MinMaxCalibration\r\na: 3F810204\r\n", "it").scales.keys() == {"a"}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is not a TensorRT calibration cache"),
        (b"hello\na: 3f810204\n", "its first line is 'hello'"),
        (b"\x89PNG\r\n\x1a\n", "is not a TensorRT calibration cache"),
        (b"TRT-8001-EntropyCalibration2\n", "holds no tensor"),
        (b"TRT-8001-EntropyCalibration2\na 3f810204\n", "line 2 is 'a 3f810204'"),
        (b"TRT-8001-EntropyCalibration2\na: 3f8102\n", "line 2"),
        (b"TRT-8001-EntropyCalibration2\na: 3f810204\nb: xyzw0204\n", "line 3"),
        (b"TRT-8001-EntropyCalibration2\na: bf810204\n", "gives tensor 'a' the scale -1.00787"),
        (b"TRT-8001-EntropyCalibration2\na: 7fc00000\n", "gives tensor 'a' the scale nan"),
        (b"TRT-8001-EntropyCalibration2\na: 7f800000\n", "gives tensor 'a' the scale inf"),
    ],
)
def test_damaged_files_are_refused(content: bytes, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        parse_cache(content, "it")
