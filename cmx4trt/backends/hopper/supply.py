"""How a batch gets into a slot's inputs: copies on a separate stream, or launches at the beginning of the batch's graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cmx4trt.backends.hopper.feeds import DeviceFeed
from cmx4trt.backends.hopper.gather import can_gather, gather
from cmx4trt.sessions.samples import SampleRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cmx4trt.backends.hopper.slot import Slot
    from cmx4trt.devices.base import ComputeDevice, LaunchConfiguration


class Supply:
    """The supply of one copy stream. All methods must be called while the device is active."""

    def __init__(self, device: ComputeDevice, stream: int, function: int | None) -> None:
        """Uses a stream for copies and the kernel ``gather``, which engines of earlier releases lack."""
        self._device = device
        self.stream = stream
        self._function = function
        self._samples: NDArray[Any] | None = None
        self._address = 0

    def fetched_in_graph(self, feeds: Mapping[str, Any]) -> int:
        """The address of the samples, if the feeds are a few samples in page-locked memory, so that nothing is copied;
        otherwise 0."""
        if self._function is None or len(feeds) > 1:  # a slot has one list of rows
            return 0
        (feed,) = feeds.values()
        fetched = isinstance(feed, SampleRows) and can_gather(feed) and self._in_reach(feed)
        return self._address if fetched else 0

    def launches(self, slot: Slot, feeds: Mapping[str, SampleRows]) -> tuple[LaunchConfiguration, ...]:
        """The launch that fetches such feeds, the same for all batches of a size from the same samples."""
        assert self._function is not None
        count, rows = self._device.facts.multiprocessors, slot.rows.ctypes.data
        return tuple(gather(self._function, count, feed, rows, slot.inputs[name]) for name, feed in feeds.items())

    def copy(self, slot: Slot, feeds: Mapping[str, Any]) -> None:
        """Begin to copy the feeds; the slot's event ``uploaded`` completes when they have arrived."""
        for name, feed in feeds.items():
            self._copy(slot, name, feed)
        self._device.record(slot.uploaded, self.stream)

    def _copy(self, slot: Slot, name: str, feed: NDArray[Any] | DeviceFeed | SampleRows) -> None:
        if isinstance(feed, DeviceFeed):
            if feed.stream is not None:
                self._device.synchronize(feed.stream)
            self._device.copy(slot.inputs[name], feed.address, feed.nbytes, self.stream)
        elif isinstance(feed, SampleRows) and self._in_reach(feed):
            self._device.upload_rows(slot.inputs[name], feed, self.stream)
        else:
            array = feed.array() if isinstance(feed, SampleRows) else feed
            self._device.upload(slot.inputs[name], slot.staged(name, array), self.stream)

    def _in_reach(self, feed: SampleRows) -> bool:
        """Whether the device can read the samples; those of the previous batch need no new check."""
        if feed.samples is not self._samples:
            self._samples = feed.samples if self._device.is_pinned(feed.samples) else None
            self._address = feed.samples.ctypes.data
        return self._samples is not None
