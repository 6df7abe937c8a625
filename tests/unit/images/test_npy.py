"""Headers of .npy files, before their numbers are read."""

from __future__ import annotations

import io

import numpy as np
import pytest

from cmx4trt.images.npy import is_npy, read_header


def file_of(array: np.ndarray, version: tuple[int, int] | None = None) -> io.BytesIO:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version)
    stream.seek(0)
    return stream


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "u1"])
def test_a_header_says_where_the_numbers_are(version: tuple[int, int], dtype: str) -> None:
    array = np.asfortranarray(np.ones((2, 3, 4), dtype))
    stream = file_of(array, version)
    assert is_npy(stream)
    header = read_header(stream)
    assert (header.dims, header.fortran, header.dtype) == ((2, 3, 4), True, array.dtype.name)
    assert header.code == array.dtype.str
    assert header.end == len(stream.getvalue())


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"9" * 5000 + b",)}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"(" * 3000 + b")}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-3, 4, 5)}",
        b"{'descr': 'O', 'fortran_order': False, 'shape': (3, 4, 5)}",
        b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,)}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4, 5\n",
        b"\xff\x00",
    ],
)
def test_a_damaged_header_is_one_kind_of_error(header: bytes) -> None:
    stream = io.BytesIO(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(240))
    with pytest.raises(ValueError, match=r"\S"):
        read_header(stream)


def test_other_files_are_none() -> None:
    stream = io.BytesIO(bytes(100))
    assert not is_npy(stream)
    assert stream.tell() == 0
    assert not is_npy(io.BytesIO(b"\x93NUM"))
