"""The feeds of a session: host arrays, or device arrays through ``__cuda_array_interface__`` (PyTorch, CuPy, pycuda)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from cmx4trt.errors import DeviceError

if TYPE_CHECKING:
    import numpy as np

_LEGACY_STREAM = 1
"""CU_STREAM_LEGACY. In the interface, 0 is not allowed; 1 and 2 are CUDA's handles of the default streams."""


class Declared(Protocol):
    """The declaration of an input."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DeviceFeed:
    """A contiguous array in device memory; ``stream`` is the stream that writes it, None if it is complete."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    nbytes: int
    stream: int | None


def device_feed(array: Any) -> DeviceFeed | None:
    """The device array described by the CUDA array interface, version 2 or 3; None for a host array.

    Raises DeviceError for one that is not contiguous.
    """
    import numpy as np

    interface = getattr(array, "__cuda_array_interface__", None)
    if interface is None:
        return None
    shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
    nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if (strides := interface.get("strides")) is not None and tuple(strides) != _dense(shape, dtype.itemsize):
        raise DeviceError(
            f"a device array {list(shape)} is not contiguous (strides {list(strides)}); give a copy of it"
        )
    version = int(interface.get("version", 0))
    stream = interface.get("stream") if version >= 3 else _LEGACY_STREAM
    return DeviceFeed(int(interface["data"][0]), shape, dtype, nbytes, stream)


def checked_batch(feeds: Mapping[str, Any], inputs: Mapping[str, Declared], largest: int) -> int:
    """The number of samples, after checking that the arrays match the engine's inputs. Raises DeviceError."""
    sizes: set[int] = set()
    for name, declared in inputs.items():
        if name not in feeds:
            raise DeviceError(f"input {name} is missing; the engine takes {', '.join(inputs)}")
        feed = feeds[name]
        if feed.dtype != declared.dtype or tuple(feed.shape[1:]) != declared.shape or not feed.shape:
            raise DeviceError(
                f"input {name} is {feed.dtype} {list(feed.shape)}, expected {declared.dtype} {['N', *declared.shape]}"
            )
        sizes.add(feed.shape[0])
    if len(sizes) != 1 or not 1 <= (batch := sizes.pop()) <= largest:
        raise DeviceError(
            f"expected a batch of 1 to {largest} samples for this engine, the same number for every input"
        )
    return batch


def _dense(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    strides = []
    for size in reversed(shape):
        strides.append(itemsize)
        itemsize *= size
    return tuple(reversed(strides))
