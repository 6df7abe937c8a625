"""The header of a .npy file, read before its numbers: numpy would first allocate the memory that a damaged header claims."""

from __future__ import annotations

import tokenize
from dataclasses import dataclass
from math import prod
from typing import BinaryIO

from cmx4trt.base.damage import MALFORMED, reason

MAGIC = b"\x93NUMPY"


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """Shape and element type (numpy's name, and numpy's code with byte order); the numbers begin at byte ``offset``."""

    dims: tuple[int, ...]
    fortran: bool
    dtype: str
    code: str
    itemsize: int
    offset: int

    @property
    def end(self) -> int:
        """Size in bytes of a complete file."""
        return self.offset + prod(self.dims) * self.itemsize


def is_npy(stream: BinaryIO) -> bool:
    """Whether a stream begins like a .npy file; leaves it at its beginning."""
    begins = stream.read(len(MAGIC)) == MAGIC
    stream.seek(0)
    return begins


def read_header(stream: BinaryIO) -> NpyHeader:
    """The header of a .npy file of plain numbers. Raises only ValueError if it is damaged; OSError."""
    import numpy as np

    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        dims, fortran, dtype = read(stream)
    except (*MALFORMED, tokenize.TokenError) as error:
        raise ValueError(reason(error)) from error
    if dtype.hasobject or dtype.fields is not None or any(size < 0 for size in dims):
        raise ValueError(f"shape {dims} of {dtype} is not that of a numeric array")
    return NpyHeader(dims, fortran, dtype.name, dtype.str, dtype.itemsize, stream.tell())
