"""The part of pycuda.driver that we use, on host memory.

Streams are lazy: work waits until something synchronises, in the order it was given. Code that reuses a buffer too early,
or reads before waiting, therefore fails here as it would on a GPU. Calls that CUDA makes in a context raise without one.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

DEVICE = SimpleNamespace(
    name="NVIDIA Fake 5090", compute_capability=(12, 0), memory=32 << 30, free=30 << 30, multiprocessors=170, count=1
)
"""The device that tests may change."""
DRIVER_VERSION = 13000
STREAMS: dict[int, Stream] = {}
ALLOCATED: dict[int, int] = {}
"""Address -> size of device memory not freed yet."""
_contexts = threading.local()
init_error: Exception | None = None


class Error(Exception):
    """Base of CUDA's errors."""


class MemoryError(Error):
    """cuMemAlloc failed."""


class LogicError(Error):
    """Misuse."""


class RuntimeError(Error):
    """cuInit failed and the like."""


class device_attribute:  # noqa: N801
    MULTIPROCESSOR_COUNT = 16


class event_flags:  # noqa: N801
    DISABLE_TIMING = 2


def init(flags: int = 0) -> None:
    if init_error is not None:
        raise init_error


def get_driver_version() -> int:
    return DRIVER_VERSION


def _stack() -> list[Context]:
    if not hasattr(_contexts, "stack"):
        _contexts.stack = []
    return _contexts.stack  # type: ignore[no-any-return]


def require_context() -> None:
    if not _stack():
        raise LogicError("invalid device context")


class Context:
    def push(self) -> None:
        _stack().append(self)

    @staticmethod
    def pop() -> None:
        if not _stack():
            raise LogicError("cannot pop non-current context")
        _stack().pop()


class Device:
    def __init__(self, number: int) -> None:
        self._number = number
        if number >= DEVICE.count:
            raise LogicError("cuDeviceGet failed: invalid device ordinal")

    @staticmethod
    def count() -> int:
        return int(DEVICE.count)

    def name(self) -> str:
        return str(DEVICE.name)

    def pci_bus_id(self) -> str:
        return f"0000:{16 + self._number:02x}:00.0"

    def compute_capability(self) -> tuple[int, int]:
        return DEVICE.compute_capability  # type: ignore[no-any-return]

    def get_attribute(self, attribute: int) -> int:
        assert attribute == device_attribute.MULTIPROCESSOR_COUNT
        return int(DEVICE.multiprocessors)

    def total_memory(self) -> int:
        return int(DEVICE.memory)

    def retain_primary_context(self) -> Context:
        return Context()


def mem_get_info() -> tuple[int, int]:
    require_context()
    return DEVICE.free, DEVICE.memory


class Stream:
    def __init__(self, flags: int = 0) -> None:
        require_context()
        self.handle = id(self)
        self._waiting: list[Callable[[], None]] = []
        STREAMS[self.handle] = self

    def enqueue(self, work: Callable[[], None]) -> int:
        """Add work; returns how much must be done to have it done."""
        require_context()
        self._waiting.append(work)
        return len(self._waiting)

    def run_until(self, count: int) -> None:
        done, self._waiting = self._waiting[:count], self._waiting[count:]
        for work in done:
            work()

    def synchronize(self) -> None:
        require_context()
        self.run_until(len(self._waiting))


class Event:
    def __init__(self, flags: int = 0) -> None:
        require_context()
        self._passed = True
        self._stream: Stream | None = None

    def record(self, stream: Stream) -> None:
        self._stream, self._passed = stream, False
        stream.enqueue(lambda: setattr(self, "_passed", True))

    def synchronize(self) -> None:
        require_context()
        while not self._passed:
            assert self._stream is not None
            self._stream.run_until(1)


class DeviceAllocation:
    def __init__(self, size: int) -> None:
        self._bytes = ctypes.create_string_buffer(b"\xcd" * size, size)  # not zeros: forgotten copies must show
        self._address = ctypes.addressof(self._bytes)
        ALLOCATED[self._address] = size

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        require_context()
        del ALLOCATED[self._address]


def mem_alloc(size: int) -> DeviceAllocation:
    require_context()
    if sum(ALLOCATED.values()) + size > DEVICE.free:
        raise MemoryError("cuMemAlloc failed: out of memory")
    return DeviceAllocation(size)


class PagelockedHostAllocation:
    def __init__(self, size: int) -> None:
        self._bytes = ctypes.create_string_buffer(size)
        self.__array_interface__ = {
            "shape": (size,),
            "typestr": "|u1",
            "data": (ctypes.addressof(self._bytes), False),
            "version": 3,
        }


def pagelocked_empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    require_context()
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.asarray(PagelockedHostAllocation(max(1, size)))[:size].view(dtype).reshape(shape)


def memcpy_htod_async(dest: int, src: np.ndarray[Any, Any], stream: Stream) -> None:
    assert src.flags.c_contiguous
    stream.enqueue(lambda: ctypes.memmove(dest, src.ctypes.data, src.nbytes) and None)


def memcpy_dtoh_async(dest: np.ndarray[Any, Any], src: int, stream: Stream) -> None:
    assert dest.flags.c_contiguous
    assert dest.flags.writeable
    stream.enqueue(lambda: ctypes.memmove(dest.ctypes.data, src, dest.nbytes) and None)
