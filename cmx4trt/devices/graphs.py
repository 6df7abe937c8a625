"""CUDA graphs through the driver's C interface: capture the work of a stream once, then launch it as a unit.

pycuda does not offer stream capture. Functions and constants: CUDA Driver API, "Stream Management" and "Graph Management".
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache

from cmx4trt.errors import DeviceError

_CAPTURE_MODE_THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: calls of other threads on other streams are not affected."""


class CudaGraph:
    """Work captured from a stream; freed with the object. Must be created, launched and freed while the context is current."""

    def __init__(self, enqueue: Callable[[], None], stream: int) -> None:
        """Capture what ``enqueue`` puts on the stream with handle ``stream``; nothing is executed. Raises DeviceError."""
        self._executable = ctypes.c_void_p()
        graph = ctypes.c_void_p()
        _call("cuStreamBeginCapture_v2", ctypes.c_void_p(stream), ctypes.c_int(_CAPTURE_MODE_THREAD_LOCAL))
        try:
            enqueue()
        finally:
            _call("cuStreamEndCapture", ctypes.c_void_p(stream), ctypes.byref(graph))
        try:
            flags = ctypes.c_ulonglong(0)
            _call("cuGraphInstantiateWithFlags", ctypes.byref(self._executable), graph, flags)
        finally:
            _call("cuGraphDestroy", graph)

    def launch(self, stream: int) -> None:
        """Begin to execute the captured work on ``stream``. Raises DeviceError."""
        _call("cuGraphLaunch", self._executable, ctypes.c_void_p(stream))

    def free(self) -> None:
        """Destroy the executable graph. Raises DeviceError."""
        if self._executable:
            _call("cuGraphExecDestroy", self._executable)
            self._executable = ctypes.c_void_p()


@lru_cache(maxsize=1)
def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def _call(name: str, *arguments: object) -> None:
    status = getattr(_driver(), name)(*arguments)
    if status != 0:
        text = ctypes.c_char_p()
        _driver().cuGetErrorString(status, ctypes.byref(text))
        raise DeviceError(f"{name} failed: {(text.value or b'unknown error').decode()} (error {status})")
