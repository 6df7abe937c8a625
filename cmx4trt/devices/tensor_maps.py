"""CUtensorMap and kernel parameters for the CUDA driver API ("Tensor Map Object Management", "Execution Control")."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from cmx4trt.devices.base import Pointer, Tiles, Value, Windows

SIZE = 128
"""Size of a CUtensorMap in bytes."""
ALIGNMENT = 64
"""Alignment of a CUtensorMap, also as a kernel parameter."""


def tiled(driver: Any, tiles: Tiles) -> tuple[Any, ...]:
    """The arguments of cuTensorMapEncodeTiled."""
    rank = len(tiles.extents)
    return (
        driver.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_UINT8,
        rank,
        tiles.address,
        _longs(driver, tiles.extents),
        _longs(driver, tiles.strides),
        _words(driver, tiles.box),
        _words(driver, (1,) * rank),
        *_modes(driver, tiles.swizzle),
    )


def im2col(driver: Any, windows: Windows) -> tuple[Any, ...]:
    """The arguments of cuTensorMapEncodeIm2col for a dense [N, H, W, C] tensor."""
    channels, width, height, _ = windows.extents
    strides = (channels, channels * width, channels * width * height)
    return (
        driver.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_UINT8,
        len(windows.extents),
        windows.address,
        _longs(driver, windows.extents),
        _longs(driver, strides),
        list(windows.lower_corner),
        list(windows.upper_corner),
        windows.channels_per_pixel,
        windows.pixels,
        _words(driver, (1, windows.stride, windows.stride, 1)),
        *_modes(driver, windows.swizzle),
    )


def _modes(driver: Any, swizzle: int) -> tuple[Any, ...]:
    """Interleave, swizzle, L2 promotion, out-of-bounds fill."""
    name = f"CU_TENSOR_MAP_SWIZZLE_{swizzle}B" if swizzle else "CU_TENSOR_MAP_SWIZZLE_NONE"
    return (
        driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
        getattr(driver.CUtensorMapSwizzle, name),
        driver.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
        driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
    )


def _longs(driver: Any, values: Sequence[int]) -> list[Any]:
    return [driver.cuuint64_t(value) for value in values]


def _words(driver: Any, values: Sequence[int]) -> list[Any]:
    return [driver.cuuint32_t(value) for value in values]


class Parameters:
    """A kernel's arguments in memory, and the array of pointers to them, which is at ``address``."""

    def __init__(self, values: Sequence[Value]) -> None:
        self._memory = [_stored(value) for value in values]
        addresses = [address for _, address in self._memory]
        self._pointers = (ctypes.c_void_p * len(addresses))(*addresses)

    @property
    def address(self) -> int:
        """The kernelParams of cuLaunchKernel; valid as long as this object lives."""
        return ctypes.addressof(self._pointers)


def _stored(value: Value) -> tuple[Any, int]:
    """An object that owns the value's bytes, and their address."""
    if isinstance(value, bytes):
        buffer = ctypes.create_string_buffer(SIZE + ALIGNMENT)
        address = -(-ctypes.addressof(buffer) // ALIGNMENT) * ALIGNMENT
        ctypes.memmove(address, value, SIZE)
        return buffer, address
    if isinstance(value, Pointer):
        number: Any = ctypes.c_uint64(value)
    elif isinstance(value, float):
        number = ctypes.c_float(value)
    else:
        number = ctypes.c_int32(value)
    return number, ctypes.addressof(number)
