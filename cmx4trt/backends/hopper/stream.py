"""A copy stream of a session: uploads, then one CUDA graph for network and downloads; two batches deep.

The next batch is uploaded on a separate CUDA stream while the GPU computes the previous one; a small batch whose samples are in
page-locked memory is fetched by its own graph. A graph contains a batch's addresses and sizes, so there is one for every slot and
batch size, recorded on first use.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cmx4trt.backends.hopper.arguments import Addresses
from cmx4trt.backends.hopper.feeds import checked_batch, device_feed
from cmx4trt.backends.hopper.gather import KERNEL
from cmx4trt.backends.hopper.slot import Slot, Tensor
from cmx4trt.backends.hopper.supply import Supply
from cmx4trt.errors import DeviceError
from cmx4trt.sessions.samples import SampleRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cmx4trt.backends.hopper.arguments import Resolver
    from cmx4trt.backends.hopper.plan import Plan
    from cmx4trt.devices.base import ComputeDevice, LaunchConfiguration
    from cmx4trt.devices.holdings import Holdings

DEPTH = 2
"""Batches in flight: while the device works on one, the next is uploaded."""
_EXECUTE = "execute a batch"


class EngineStream:
    """One copy stream with its own arena: see ``sessions.base.Stream``."""

    depth = DEPTH

    def __init__(self, device: ComputeDevice, plan: Plan, resolver: Resolver, weights: int, held: Holdings) -> None:
        """``weights``: their address; ``held`` releases everything. Must be called while the device is active."""
        self._device = device
        self._plan = plan
        self._resolver = resolver
        self._weights = weights
        self._inputs = {name: Tensor(facts) for name, facts in plan.inputs.items()}
        self._outputs = {name: Tensor(facts) for name, facts in plan.outputs.items()}
        self.compute = held.stream()
        self._supply = Supply(device, held.stream(), resolver.functions.get(KERNEL.name))
        self.arena = held.memory(plan.arena_bytes)
        device.fill(self.arena, 0, plan.arena_bytes, self.compute)
        device.synchronize(self.compute)
        inputs, outputs = (
            {name: tensor.bytes_per_image * plan.max_batch for name, tensor in tensors.items()}
            for tensors in (self._inputs, self._outputs)
        )
        self._slots = [Slot(device, inputs, outputs, held) for _ in range(DEPTH)]
        self._accepted: NDArray[Any] | None = None  # samples that match the engine
        self._next = 0
        self._pending: deque[Slot] = deque()

    def submit(self, feeds: Mapping[str, Any]) -> None:
        """Begin to execute one batch [N, ...] of host arrays or of device arrays (``__cuda_array_interface__``)."""
        if len(self._pending) == DEPTH:
            raise DeviceError(f"{DEPTH} batches are already pending on this stream; wait for one first")
        known, batch = self._checked(feeds)
        with self._device.active(_EXECUTE):
            self._pending.append(self._begin(known, batch))

    def wait(self) -> Mapping[str, NDArray[Any]]:
        """All outputs [N, ...] of the oldest batch; valid until ``depth`` further batches have been submitted."""
        if not self._pending:
            raise DeviceError("no batch is pending on this stream; submit one first")
        slot = self._pending.popleft()
        with self._device.active("wait for a batch"):
            self._device.synchronize_event(slot.finished)
        return slot.answers(self._outputs)

    def execute(self, feeds: Mapping[str, Any]) -> Mapping[str, NDArray[Any]]:
        """All outputs of one batch, while none is pending; the calling thread spins until they are there."""
        if self._pending:
            raise DeviceError("a batch is pending on this stream; wait for it first")
        known, batch = self._checked(feeds)
        with self._device.active(_EXECUTE):
            slot = self._begin(known, batch)
            self._device.synchronize_event(slot.finished)
        return slot.answers(self._outputs)

    def place(self, feeds: Mapping[str, Any]) -> int:
        """Fill the first slot's inputs and return the batch size. Must be called while the device is active and nothing is
        pending."""
        known, batch = self._checked(feeds)
        self._supply.copy(self._slots[0], known)
        self._device.synchronize(self._supply.stream)
        return batch

    def launches(self, batch: int) -> tuple[LaunchConfiguration, ...]:
        """The first slot's launches. Must be called while the device is active."""
        return self._launches(self._slots[0], batch)

    def graph(self, batch: int) -> int:
        """A graph of only the first slot's launches. Must be called while the device is active."""
        slot = self._slots[0]
        launches = self._launches(slot, batch)
        return slot.graph(batch, lambda: self._device.capture(lambda: self._enqueue(launches), self.compute))

    def finish(self) -> None:
        """Block until nothing is executing. Must be called while the device is active."""
        self._device.synchronize(self._supply.stream)
        self._device.synchronize(self.compute)

    def _checked(self, feeds: Mapping[str, Any]) -> tuple[Mapping[str, Any], int]:
        """The engine's inputs, after validation, and the batch size. The samples of the previous batch need no new check."""
        first: Any = next(iter(feeds.values()), None)
        again = isinstance(first, SampleRows) and first.samples is self._accepted
        if again and 0 < (batch := len(first.rows)) <= self._plan.max_batch:
            return feeds, batch
        known = {name: device_feed(feed) or feed for name, feed in feeds.items()}
        batch = checked_batch(known, self._inputs, self._plan.max_batch)
        if isinstance(first, SampleRows) and len(feeds) == len(self._inputs) == 1:
            self._accepted = first.samples
        return {name: known[name] for name in self._inputs}, batch

    def _begin(self, feeds: Mapping[str, Any], batch: int) -> Slot:
        """Begin to execute a batch in the next slot."""
        slot, device = self._slots[self._next], self._device
        if address := self._supply.fetched_in_graph(feeds):
            slot.rows[:batch] = next(iter(feeds.values())).rows
        else:
            self._supply.copy(slot, feeds)
            device.wait_event(self.compute, slot.uploaded)
        fetched = feeds if address else {}
        device.launch_graph(slot.graph((batch, address), lambda: self._record(slot, batch, fetched)), self.compute)
        device.record(slot.finished, self.compute)
        slot.batch = batch
        self._next = (self._next + 1) % DEPTH
        return slot

    def _record(self, slot: Slot, batch: int, fetched: Mapping[str, Any]) -> int:
        """A graph of everything a batch needs after its upload: first the ``fetched`` launch, if any, last the downloads."""
        first = self._supply.launches(slot, fetched) if fetched else ()
        beginning, *others = self._launches(slot, batch)

        def enqueue() -> None:
            self._enqueue((*first, replace(beginning, early=bool(first)), *others))
            for name, tensor in self._outputs.items():
                content = slot.results[name][: tensor.bytes_per_image * batch]
                self._device.download(content, slot.outputs[name], self.compute)

        return self._device.capture(enqueue, self.compute)

    def _enqueue(self, launches: Sequence[LaunchConfiguration]) -> None:
        for launch in launches:
            self._device.launch(launch, self.compute)

    def _launches(self, slot: Slot, batch: int) -> tuple[LaunchConfiguration, ...]:
        addresses = Addresses(self.arena, self._weights, slot.inputs, slot.outputs)
        return self._resolver.launches(self._plan.program(batch), batch, addresses)
