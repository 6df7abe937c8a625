"""libcuda functions that cuda-bindings provides only for some drivers, or slowly: they are called by symbol."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from cmx4trt.devices.cuda_errors import CudaFailure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SINCE = 12080
"""The CUDA version that introduced cuMemcpyBatchAsync (driver 570)."""
_IN_STREAM_ORDER = 1
"""CU_MEMCPY_SRC_ACCESS_ORDER_STREAM: sources are read in stream order."""


class _Attributes(ctypes.Structure):
    """CUmemcpyAttributes: order of access, two location hints of two numbers, flags."""

    _fields_ = (("order", ctypes.c_int), ("hints", ctypes.c_int * 4), ("flags", ctypes.c_uint))


class BatchCopies:
    """Many copies to the device in one call, cuMemcpyBatchAsync; its first version, which later drivers keep under the same
    symbol.

    cuda-bindings needs a list of objects; this takes the arrays themselves. One call per copy costs the host 2 us each.
    """

    def __init__(self) -> None:
        """Raises OSError or AttributeError if this driver lacks it."""
        number, pointer = ctypes.c_size_t, ctypes.c_void_p
        self._function = ctypes.CDLL("libcuda.so.1").cuMemcpyBatchAsync
        self._function.argtypes = (*[pointer] * 3, number, pointer, pointer, number, pointer, pointer)
        self._attributes = _Attributes(order=_IN_STREAM_ORDER)
        self._first = number(0)

    def begin(
        self, targets: NDArray[np.int64], sources: NDArray[np.int64], sizes: NDArray[np.int64], stream: int
    ) -> int:
        """Begin to copy ``sizes`` bytes from one list of addresses to the other. Returns the driver's status."""
        failed = ctypes.c_size_t()
        addresses = [array.ctypes.data for array in (targets, sources, sizes)]
        attributes, first = ctypes.byref(self._attributes), ctypes.byref(self._first)
        status: int = self._function(*addresses, len(sizes), attributes, first, 1, ctypes.byref(failed), stream)
        return status


def open_batch_copies(cuda: int) -> BatchCopies | None:
    """The function, or None if the driver's ``cuda`` version is too old."""
    if cuda < SINCE:
        return None
    try:
        return BatchCopies()
    except (OSError, AttributeError):
        return None


def elapsed_before_cuda_12_8(first: int, last: int) -> float:
    """Milliseconds between two events, with the old function, which the bindings lack: theirs was introduced in CUDA 12.8."""
    milliseconds = ctypes.c_float()
    arguments = (ctypes.byref(milliseconds), ctypes.c_void_p(first), ctypes.c_void_p(last))
    status: int = ctypes.CDLL("libcuda.so.1").cuEventElapsedTime(*arguments)
    if status != 0:
        raise CudaFailure("cuEventElapsedTime", f"error {status}")
    return milliseconds.value
