"""Buffers of one batch in flight, and the CUDA graphs that were recorded with their addresses."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cmx4trt.backends.hopper.gather import LARGEST

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cmx4trt.devices.base import ComputeDevice
    from cmx4trt.devices.holdings import Holdings

GRAPHS = 64
"""CUDA graphs kept per slot; the least recently used one is evicted first. Server uses up to 40 batch sizes (bench/sizes.py)."""
_ROW = 4
"""Size of a row index in bytes."""


class Tensor:
    """An input or output of the engine: dtype and shape of one image."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        import numpy as np

        self.dtype = np.dtype(str(facts["dtype"]))
        self.shape: tuple[int, ...] = tuple(facts["shape"])
        self.bytes_per_image = self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))


class Slot:
    """Released by ``held``. Must be created while the device is active."""

    def __init__(
        self, device: ComputeDevice, inputs: Mapping[str, int], outputs: Mapping[str, int], held: Holdings
    ) -> None:
        """Allocates this many bytes for every input and output."""
        self._device = device
        self.inputs = {name: held.memory(size) for name, size in inputs.items()}
        self.outputs = {name: held.memory(size) for name, size in outputs.items()}
        self.results = {name: held.pinned(size) for name, size in outputs.items()}
        self.rows = held.pinned(_ROW * LARGEST).view("int32")
        """The samples that the kernel ``gather`` fetches; the GPU reads them in place."""
        self.uploaded, self.finished = held.event(), held.event()
        self.batch = 0
        self._graphs: OrderedDict[object, int] = OrderedDict()
        self._answers: dict[int, Mapping[str, NDArray[Any]]] = {}
        self._staging: dict[str, NDArray[Any]] = {}
        held.before_that(self._free_what_came_later)

    def graph(self, key: object, record: Callable[[], int]) -> int:
        """The graph for ``key``, recorded on first use, when the slot's graphs must not be executing."""
        if key in self._graphs:
            self._graphs.move_to_end(key)
            return self._graphs[key]
        self._graphs[key] = graph = record()
        if len(self._graphs) > GRAPHS:
            _, oldest = self._graphs.popitem(last=False)
            self._device.free_graph(oldest)
        return graph

    def answers(self, outputs: Mapping[str, Tensor]) -> Mapping[str, NDArray[Any]]:
        """The results of the batch as arrays [N, ...], which are created once per batch size."""
        if self.batch not in self._answers:
            self._answers[self.batch] = {
                name: self.results[name][: tensor.bytes_per_image * self.batch]
                .view(tensor.dtype)
                .reshape(self.batch, *tensor.shape)
                for name, tensor in outputs.items()
            }
        return self._answers[self.batch]

    def staged(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """``array`` if the device can read it directly, otherwise its copy in page-locked memory, allocated on first use."""
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
        while self._graphs:
            self._device.free_graph(self._graphs.popitem()[1])
        while self._staging:
            self._device.free_pinned(self._staging.popitem()[1])
