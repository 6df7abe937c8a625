"""Runs engines of TensorRT and TensorRT-RTX on the GPU, with one copy stream per optimization profile.

The library is passed in as ``trt``, GPU operations as ``cuda``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cmx4trt.backends.tensorrt.serialize import collecting_logger
from cmx4trt.devices.driver import Device
from cmx4trt.devices.graphs import CudaGraph
from cmx4trt.errors import DeviceError
from cmx4trt.sessions.samples import SampleRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cmx4trt.backends.tensorrt.library import Library

DEPTH = 2
"""Batches in flight per stream: while the device works on one, the host fills the buffers of the next."""


class TensorRTSession:
    """An engine ready to run: see ``sessions.base.Session``. Every tensor has the batch as its first axis, [N, ...]."""

    gathers = True

    def __init__(
        self,
        trt: Library,
        data: Any,
        device: Device,
        cuda_graphs: bool = False,
        record: Callable[[Callable[[], None], int], CudaGraph] = CudaGraph,
    ) -> None:
        """``record``: makes a CUDA graph of what a function enqueues on a stream."""
        self._trt = trt
        self._record = record
        self._device = device
        self._cuda_graphs = cuda_graphs
        self._logger = collecting_logger(trt)
        with device.active("load the engine"):
            self._runtime = trt.Runtime(self._logger)
            self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise DeviceError(f"{device.title} cannot run this engine: {self._logger.reason()}")
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        is_input = {name: self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names}
        self.inputs: tuple[str, ...] = tuple(name for name in names if is_input[name])
        self.outputs: tuple[str, ...] = tuple(name for name in names if not is_input[name])
        self.device: str = f"{_library_name(trt)} {trt.__version__} on {device.title}"
        smallest, _, largest = (tuple(dims) for dims in self._engine.get_tensor_profile_shape(self.inputs[0], 0))
        self.min_batch: int = smallest[0]
        self.max_batch: int | None = largest[0]
        profiles = self._engine.num_optimization_profiles
        self.placements = (device.placement,) * profiles
        with device.active("allocate the engine's buffers"):
            self._streams = [self._new_stream(index) for index in range(profiles)]

    def input_shape(self, name: str) -> tuple[int | str | None, ...]:
        """The declared shape of an input; the dynamic batch dimension is 'N'."""
        return tuple("N" if size == -1 else size for size in self._engine.get_tensor_shape(name))

    def input_dtype(self, name: str) -> str:
        """The numpy name of an input's element type."""
        return self._dtype(name)

    def run(self, feeds: Mapping[str, Any]) -> Mapping[str, NDArray[Any]]:
        """All outputs for one batch; copies of the stream's buffers."""
        return {name: array.copy() for name, array in self._streams[0].execute(feeds).items()}

    def streams(self) -> Sequence[EngineStream]:
        """The copy streams, one per optimization profile."""
        return self._streams

    def allocate(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Page-locked host memory; uninitialized."""
        return self._device.pinned(shape, dtype)

    def close(self) -> None:
        """Release all device memory, after the streams have finished."""
        with self._device.active("close the engine"):
            for stream in self._streams:
                stream.close()
            self._streams = []
            del self._engine, self._runtime

    def _dtype(self, name: str) -> str:
        import numpy as np

        return str(np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name))))

    def _new_stream(self, profile: int) -> EngineStream:
        """A stream with an execution context on ``profile`` and buffers for its largest batch."""
        device = self._device
        stream, context = device.stream(), self._new_context()
        if context is None:
            raise DeviceError(f"{device.title} has no room for copy stream {profile}: {self._logger.reason()}")
        if not context.set_optimization_profile_async(profile, stream.handle):
            raise DeviceError(f"the engine rejects optimization profile {profile}: {self._logger.reason()}")
        stream.synchronize()
        for name in self.inputs:
            context.set_input_shape(name, tuple(self._engine.get_tensor_profile_shape(name, profile)[2]))
        tensors = {
            name: (tuple(context.get_tensor_shape(name)), self._dtype(name)) for name in (*self.inputs, *self.outputs)
        }
        slots = [_Slot(device, tensors) for _ in range(DEPTH)]
        record = self._record if self._cuda_graphs and not _has_own_graphs(self._trt) else None
        return EngineStream(device, context, stream, slots, self.inputs, record, self._logger.reason)

    def _new_context(self) -> Any:
        """An execution context; TensorRT-RTX records CUDA graphs itself on request."""
        if self._cuda_graphs and _has_own_graphs(self._trt):
            trt: Any = self._trt  # features that only TensorRT-RTX has are not part of Library
            config: Any = self._engine.create_runtime_config()
            config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            return self._engine.create_execution_context(config)
        return self._engine.create_execution_context()


def _has_own_graphs(trt: Library) -> bool:
    return hasattr(trt, "CudaGraphStrategy")


def _library_name(trt: Library) -> str:
    return "TensorRT-RTX" if _has_own_graphs(trt) else "TensorRT"


class _Slot:
    """Device and page-locked host buffers for one batch in flight, each as large as the profile's largest batch."""

    def __init__(self, device: Device, tensors: Mapping[str, tuple[tuple[int, ...], str]]) -> None:
        import numpy as np

        self.host: dict[str, NDArray[Any]] = {}
        self.memory: dict[str, Any] = {}
        for name, (shape, dtype) in tensors.items():
            self.memory[name] = device.allocate(max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize))
            self.host[name] = device.pinned(shape, dtype)
        self.finished = device.event()
        self.batch = 0
        self.graph: CudaGraph | None = None


class EngineStream:
    """One copy stream: see ``sessions.base.Stream``. Copies in, executes and copies out in order, ``DEPTH`` batches deep."""

    depth = DEPTH

    def __init__(
        self,
        device: Device,
        context: Any,
        stream: Any,
        slots: Sequence[_Slot],
        inputs: tuple[str, ...],
        record: Callable[[Callable[[], None], int], CudaGraph] | None,
        reason: Callable[[], str],
    ) -> None:
        self._device = device
        self._context = context
        self._stream = stream
        self._slots = list(slots)
        self._inputs = inputs
        self._outputs = tuple(name for name in slots[0].host if name not in inputs)
        self._record = record
        self._reason = reason
        self._largest = slots[0].host[inputs[0]].shape[0]
        self._batch = 0
        self._next = 0
        self._pending: deque[_Slot] = deque()

    def submit(self, feeds: Mapping[str, Any]) -> None:
        """Begin to execute one batch of arrays or SampleRows. Raises DeviceError if too many batches are pending or the device
        refuses."""
        if len(self._pending) == DEPTH:
            raise DeviceError(f"{DEPTH} batches are already pending on this stream; wait for one first")
        slot = self._slots[self._next]
        batch = self._checked_batch(feeds, slot)
        with self._device.active("execute a batch"):
            for name in self._inputs:
                self._upload(feeds[name], int(slot.memory[name]), slot.host[name])
            self._execute(slot, batch)
            for name in self._outputs:
                self._device.download(slot.host[name][:batch], int(slot.memory[name]), self._stream)
            slot.finished.record(self._stream)
        slot.batch = batch
        self._next = (self._next + 1) % DEPTH
        self._pending.append(slot)

    def wait(self) -> Mapping[str, NDArray[Any]]:
        """All outputs [N, ...] of the oldest batch; valid until ``depth`` further batches have been submitted."""
        slot = self._pending.popleft()
        with self._device.active("wait for a batch"):
            slot.finished.synchronize()
        return {name: slot.host[name][: slot.batch] for name in self._outputs}

    def execute(self, feeds: Mapping[str, Any]) -> Mapping[str, NDArray[Any]]:
        """``submit`` and ``wait`` in one."""
        self.submit(feeds)
        return self.wait()

    def close(self) -> None:
        """Wait for pending batches and free the buffers. Must be called while the device is active."""
        self._stream.synchronize()
        self._drop_graphs()
        for slot in self._slots:
            for memory in slot.memory.values():
                memory.free()
        del self._context

    def _checked_batch(self, feeds: Mapping[str, Any], slot: _Slot) -> int:
        """The number of samples, after checking that the arrays fit the engine's inputs."""
        sizes: set[int] = set()
        for name in self._inputs:
            if name not in feeds:
                raise DeviceError(f"input {name} is missing; the engine takes {', '.join(self._inputs)}")
            array, buffer = feeds[name], slot.host[name]
            if array.dtype != buffer.dtype or array.shape[1:] != buffer.shape[1:] or len(array.shape) != buffer.ndim:
                raise DeviceError(
                    f"input {name} is {array.dtype} {list(array.shape)}, expected {buffer.dtype} {['N', *buffer.shape[1:]]}"
                )
            sizes.add(array.shape[0])
        if len(sizes) != 1 or not 1 <= (batch := sizes.pop()) <= self._largest:
            raise DeviceError(
                f"expected a batch of 1 to {self._largest} samples for this engine, the same number for every input"
            )
        return batch

    def _upload(self, feed: NDArray[Any] | SampleRows, address: int, buffer: NDArray[Any]) -> None:
        """Begin to copy a batch: directly if it is in page-locked memory, otherwise from its copy in ``buffer``."""
        upload, stream = self._device.upload, self._stream
        if isinstance(feed, SampleRows) and self._device.is_pinned(feed.samples):
            size = feed.sample_bytes
            for begin, count in zip(*feed.runs(), strict=True):
                first = feed.rows[begin]
                upload(address + int(begin) * size, feed.samples[first : first + count], stream)
            return
        array = feed.array() if isinstance(feed, SampleRows) else feed
        if not self._device.is_pinned(array):
            staged = buffer[: array.shape[0]]
            staged[...] = array
            array = staged
        upload(address, array, stream)

    def _execute(self, slot: _Slot, batch: int) -> None:
        if batch != self._batch:
            self._set_batch(batch)
        if slot.graph is not None:
            slot.graph.launch(self._stream.handle)
            return
        for name, memory in slot.memory.items():
            if not self._context.set_tensor_address(name, int(memory)):
                raise DeviceError(f"the engine rejects the buffer of {name}: {self._reason()}")
        self._enqueue()
        if self._record is not None and batch == self._largest:
            # Recorded after an ordinary execution: the first one with new shapes may do work that cannot be recorded.
            slot.graph = self._record(self._enqueue, self._stream.handle)

    def _set_batch(self, batch: int) -> None:
        """Set the new shapes in the context; recorded graphs are for the old ones."""
        self._drop_graphs()
        for name in self._inputs:
            shape = (batch, *self._slots[0].host[name].shape[1:])
            if not self._context.set_input_shape(name, shape):
                raise DeviceError(f"the engine rejects input {name} of shape {list(shape)}: {self._reason()}")
        self._batch = batch

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream.handle):
            raise DeviceError(f"the engine failed to execute: {self._reason()}")

    def _drop_graphs(self) -> None:
        """Free recorded graphs, which may still be executing."""
        if any(slot.graph is not None for slot in self._slots):
            self._stream.synchronize()
        for slot in self._slots:
            if slot.graph is not None:
                slot.graph.free()
                slot.graph = None
