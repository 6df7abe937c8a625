"""Constants and their element types."""

from __future__ import annotations

from enum import IntEnum
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Buffer = bytes | bytearray | memoryview


class DType(IntEnum):
    """Element types, with the codes of ``TensorProto.DataType``."""

    FLOAT = 1
    UINT8 = 2
    INT8 = 3
    UINT16 = 4
    INT16 = 5
    INT32 = 6
    INT64 = 7
    STRING = 8
    BOOL = 9
    FLOAT16 = 10
    DOUBLE = 11
    UINT32 = 12
    UINT64 = 13
    BFLOAT16 = 16

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return _ITEM_SIZES[self]

    @property
    def numpy_name(self) -> str:
        """The numpy dtype of the raw bytes; bfloat16, which numpy lacks, is represented by its uint16 bits."""
        return _NUMPY_NAMES[self]


_ITEM_SIZES = {
    DType.FLOAT: 4,
    DType.UINT8: 1,
    DType.INT8: 1,
    DType.UINT16: 2,
    DType.INT16: 2,
    DType.INT32: 4,
    DType.INT64: 8,
    DType.BOOL: 1,
    DType.FLOAT16: 2,
    DType.DOUBLE: 8,
    DType.UINT32: 4,
    DType.UINT64: 8,
    DType.BFLOAT16: 2,
}
_NUMPY_NAMES = {
    DType.FLOAT: "float32",
    DType.UINT8: "uint8",
    DType.INT8: "int8",
    DType.UINT16: "uint16",
    DType.INT16: "int16",
    DType.INT32: "int32",
    DType.INT64: "int64",
    DType.BOOL: "bool",
    DType.FLOAT16: "float16",
    DType.DOUBLE: "float64",
    DType.UINT32: "uint32",
    DType.UINT64: "uint64",
    DType.BFLOAT16: "uint16",
}
_DTYPES_BY_NUMPY = {name: dtype for dtype, name in _NUMPY_NAMES.items() if dtype is not DType.BFLOAT16}


class Tensor:
    """A constant: ``dims`` and its elements as raw bytes (row-major, little-endian)."""

    __slots__ = ("data", "dims", "dtype", "name")

    def __init__(self, name: str, dtype: DType, dims: tuple[int, ...], data: Buffer) -> None:
        self.name = name
        self.dtype = dtype
        self.dims = dims
        self.data = data

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.dims)

    def numpy(self) -> NDArray[Any]:
        """A read-only view as an array of shape ``dims`` (bfloat16 as its uint16 bits)."""
        import numpy as np

        array = np.frombuffer(self.data, dtype=self.dtype.numpy_name).reshape(self.dims)
        array.flags.writeable = False
        return array

    @property
    def compact(self) -> Tensor:
        """The constant with the same values in the fewest bytes that is known: itself, or what it was widened from."""
        return self

    def renamed(self, name: str) -> Tensor:
        """The same constant under another name, over the same memory."""
        return Tensor(name, self.dtype, self.dims, self.data)

    @classmethod
    def from_numpy(cls, name: str, array: np.ndarray[Any, Any], dtype: DType | None = None) -> Tensor:
        """A constant over the array's own memory (copied only if it is not contiguous)."""
        import numpy as np

        # np.ascontiguousarray would turn a scalar into a vector of one element.
        flat = np.require(array, requirements="C").reshape(-1).view(np.uint8)
        return cls(name, dtype or _DTYPES_BY_NUMPY[array.dtype.name], tuple(array.shape), flat.data)
