"""A copy stream of a session: uploads, one CUDA graph for the network, downloads; two batches deep.

The next batch is uploaded on a CUDA stream of its own while the GPU computes the previous one. A graph holds a batch's
addresses and sizes, so there is one for every slot and batch size, recorded when first needed.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cmx4trt.backends.hopper.arguments import Addresses
from cmx4trt.backends.hopper.feeds import DeviceFeed, checked_batch, device_feed
from cmx4trt.errors import DeviceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cmx4trt.backends.hopper.arguments import Resolver
    from cmx4trt.backends.hopper.plan import Plan
    from cmx4trt.devices.base import ComputeDevice, LaunchConfiguration
    from cmx4trt.devices.holdings import Holdings

DEPTH = 2
"""Batches in flight: while the device works on one, the next is uploaded."""
GRAPHS = 8
"""CUDA graphs kept for every slot; the one used longest ago goes first. LoadGen asks for one or two batch sizes."""


class Tensor:
    """An input or output of the engine: dtype and shape of one image."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        import numpy as np

        self.dtype = np.dtype(str(facts["dtype"]))
        self.shape: tuple[int, ...] = tuple(facts["shape"])
        self.bytes_per_image = self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))


class Slot:
    """Buffers of one batch in flight, which ``held`` gives back. To be made while the device is active."""

    def __init__(
        self, device: ComputeDevice, inputs: Mapping[str, int], outputs: Mapping[str, int], held: Holdings
    ) -> None:
        """With so many bytes for every input and output."""
        self._device = device
        self.inputs = {name: held.memory(size) for name, size in inputs.items()}
        self.outputs = {name: held.memory(size) for name, size in outputs.items()}
        self.results = {name: held.pinned(size) for name, size in outputs.items()}
        self.uploaded, self.finished = held.event(), held.event()
        self.batch = 0
        self.graphs: OrderedDict[int, int] = OrderedDict()
        self._staging: dict[str, NDArray[Any]] = {}
        held.before_that(self._free_what_came_later)

    def staged(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """``array`` if the device can read it directly, else its copy in page-locked memory, which is made when first needed."""
        if self._device.is_pinned(array):
            return array
        if name not in self._staging or self._staging[name].nbytes < array.nbytes:
            if name in self._staging:
                self._device.free_pinned(self._staging.pop(name))
            self._staging[name] = self._device.pinned(array.nbytes)
        staged = self._staging[name][: array.nbytes].view(array.dtype).reshape(array.shape)
        staged[...] = array
        return staged

    def _free_what_came_later(self) -> None:
        while self.graphs:
            self._device.free_graph(self.graphs.popitem()[1])
        while self._staging:
            self._device.free_pinned(self._staging.popitem()[1])


class EngineStream:
    """One copy stream with an arena of its own: see ``sessions.base.Stream``."""

    depth = DEPTH

    def __init__(self, device: ComputeDevice, plan: Plan, resolver: Resolver, weights: int, held: Holdings) -> None:
        """With the address of the weights; ``held`` gives everything back. To be called while the device is active."""
        self._device = device
        self._plan = plan
        self._resolver = resolver
        self._weights = weights
        self._inputs = {name: Tensor(facts) for name, facts in plan.inputs.items()}
        self._outputs = {name: Tensor(facts) for name, facts in plan.outputs.items()}
        self.compute, self._upload = held.stream(), held.stream()
        self.arena = held.memory(plan.arena_bytes)
        device.fill(self.arena, 0, plan.arena_bytes, self.compute)
        device.synchronize(self.compute)
        inputs, outputs = (
            {name: tensor.bytes_per_image * plan.max_batch for name, tensor in tensors.items()}
            for tensors in (self._inputs, self._outputs)
        )
        self._slots = [Slot(device, inputs, outputs, held) for _ in range(DEPTH)]
        self._next = 0
        self._pending: deque[Slot] = deque()

    def submit(self, feeds: Mapping[str, Any]) -> None:
        """Begin to execute one batch [N, ...] of host arrays or of device arrays (``__cuda_array_interface__``)."""
        if len(self._pending) == DEPTH:
            raise DeviceError(f"{DEPTH} batches are pending on this stream already; wait for one first")
        known = {name: device_feed(feed) or feed for name, feed in feeds.items()}
        batch = checked_batch(known, self._inputs, self._plan.max_batch)
        slot = self._slots[self._next]
        with self._device.active("execute a batch"):
            for name in self._inputs:
                self._begin_upload(slot, name, known[name])
            self._device.record(slot.uploaded, self._upload)
            self._device.wait_event(self.compute, slot.uploaded)
            self._device.launch_graph(self._graph(slot, batch), self.compute)
            for name, tensor in self._outputs.items():
                size = tensor.bytes_per_image * batch
                self._device.download(slot.results[name][:size], slot.outputs[name], self.compute)
            self._device.record(slot.finished, self.compute)
        slot.batch = batch
        self._next = (self._next + 1) % DEPTH
        self._pending.append(slot)

    def wait(self) -> Mapping[str, NDArray[Any]]:
        """All outputs [N, ...] of the oldest batch; valid until ``depth`` further batches were submitted."""
        if not self._pending:
            raise DeviceError("no batch is pending on this stream; submit one first")
        slot = self._pending.popleft()
        with self._device.active("wait for a batch"):
            self._device.synchronize_event(slot.finished)
        results = {}
        for name, tensor in self._outputs.items():
            content = slot.results[name][: tensor.bytes_per_image * slot.batch]
            results[name] = content.view(tensor.dtype).reshape(slot.batch, *tensor.shape)
        return results

    def place(self, feeds: Mapping[str, Any]) -> int:
        """Fill the first slot's inputs and return the batch size. To be called while the device is active and nothing pends."""
        known = {name: device_feed(feed) or feed for name, feed in feeds.items()}
        batch = checked_batch(known, self._inputs, self._plan.max_batch)
        for name in self._inputs:
            self._begin_upload(self._slots[0], name, known[name])
        self._device.synchronize(self._upload)
        return batch

    def launches(self, batch: int) -> tuple[LaunchConfiguration, ...]:
        """The first slot's launches. To be called while the device is active."""
        return self._launches(self._slots[0], batch)

    def graph(self, batch: int) -> int:
        """The first slot's graph. To be called while the device is active."""
        return self._graph(self._slots[0], batch)

    def finish(self) -> None:
        """Block until nothing is executing. To be called while the device is active."""
        self._device.synchronize(self._upload)
        self._device.synchronize(self.compute)

    def _begin_upload(self, slot: Slot, name: str, feed: NDArray[Any] | DeviceFeed) -> None:
        if isinstance(feed, DeviceFeed):
            if feed.stream is not None:
                self._device.synchronize(feed.stream)
            self._device.copy(slot.inputs[name], feed.address, feed.nbytes, self._upload)
        else:
            self._device.upload(slot.inputs[name], slot.staged(name, feed), self._upload)

    def _graph(self, slot: Slot, batch: int) -> int:
        """The recorded launches for a batch size; a slot's graphs are not executing when it is asked."""
        if batch in slot.graphs:
            slot.graphs.move_to_end(batch)
            return slot.graphs[batch]
        launches = self._launches(slot, batch)
        graph = self._device.capture(lambda: self._enqueue(launches), self.compute)
        slot.graphs[batch] = graph
        if len(slot.graphs) > GRAPHS:
            _, oldest = slot.graphs.popitem(last=False)
            self._device.free_graph(oldest)
        return graph

    def _launches(self, slot: Slot, batch: int) -> tuple[LaunchConfiguration, ...]:
        addresses = Addresses(self.arena, self._weights, slot.inputs, slot.outputs)
        return self._resolver.launches(self._plan.program(batch), batch, addresses)

    def _enqueue(self, launches: tuple[LaunchConfiguration, ...]) -> None:
        for launch in launches:
            self._device.launch(launch, self.compute)
