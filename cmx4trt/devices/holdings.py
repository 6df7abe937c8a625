"""The GPU resources of a session, released together, newest first."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from typing import TYPE_CHECKING, Any

from cmx4trt.devices.cuda_errors import CudaFailure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cmx4trt.devices.base import ComputeDevice


class Holdings:
    """Memory, streams, events and modules of one device. All methods must be called while it is active."""

    def __init__(self, device: ComputeDevice) -> None:
        self._device = device
        self._undo = ExitStack()

    def memory(self, size: int) -> int:
        """The address of ``size`` bytes."""
        return self._held(self._device.allocate(size), self._device.free)

    def pinned(self, size: int) -> NDArray[Any]:
        """``size`` bytes of page-locked host memory."""
        array = self._device.pinned(size)
        self._undo.callback(self._device.free_pinned, array)
        return array

    def stream(self) -> int:
        """A stream."""
        return self._held(self._device.new_stream(), self._device.free_stream)

    def event(self, timing: bool = False) -> int:
        """An event."""
        return self._held(self._device.new_event(timing), self._device.free_event)

    def module(self, cubin: Any) -> int:
        """A loaded module."""
        return self._held(self._device.load(cubin), self._device.unload)

    def graph(self, enqueue: Callable[[], None], stream: int) -> int:
        """An executable graph of what ``enqueue`` puts on ``stream``."""
        return self._held(self._device.capture(enqueue, stream), self._device.free_graph)

    def before_that(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` before the current resources are released."""
        self._undo.callback(callback)

    def __enter__(self) -> Holdings:
        """Returns itself; its resources are released after the block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *about: object) -> None:
        """Release everything; after an error, that error is reported, not its consequences here."""
        with suppress(CudaFailure) if kind is not None else nullcontext():
            self.close()

    def close(self) -> None:
        """Release everything; a failure does not prevent the rest from being released."""
        self._undo.close()

    def _held(self, handle: int, give_back: Callable[[int], None]) -> int:
        self._undo.callback(give_back, handle)
        return handle
