"""Runs an engine on a GPU of compute capability 9.0: weights and kernels are loaded once, every copy stream has its own arena.

Besides the interface of all sessions it provides what checks and measurements need: buffers between operations, times of
single launches, and replays with inputs that are already on the device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cmx4trt.backends.hopper.arguments import Resolver
from cmx4trt.backends.hopper.engine import Engine, check_device, check_memory
from cmx4trt.backends.hopper.slot import Tensor
from cmx4trt.backends.hopper.stream import DEPTH, EngineStream
from cmx4trt.devices.cuda_errors import CudaFailure
from cmx4trt.devices.holdings import Holdings
from cmx4trt.devices.placement import Placement
from cmx4trt.errors import DeviceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cmx4trt.devices.base import ComputeDevice, DeviceFacts, LaunchConfiguration


class HopperSession:
    """An engine ready to run: see ``backends.session.Session``. Every tensor has the batch as its first axis, [N, ...]."""

    min_batch = 1
    gathers = True

    def __init__(self, engine: Engine, device: ComputeDevice) -> None:
        """Load ``engine``. Raises DeviceError if the GPU, its driver or its free memory are insufficient."""
        self._plan = engine.plan
        self._device = device
        self.inputs: tuple[str, ...] = tuple(engine.plan.inputs)
        self.outputs: tuple[str, ...] = tuple(engine.plan.outputs)
        self.max_batch: int | None = engine.plan.max_batch
        self.device: str = f"cmx4trt's Hopper engine on {device.facts.title}"
        self._streams: list[EngineStream] = []
        facts = device.facts
        self.placements = (Placement(facts.index, facts.name, facts.pci_bus_id),) * engine.copy_streams
        check_device(engine, facts)
        self._held = Holdings(device)
        with device.active("load the engine"):
            check_memory(device_bytes(engine), device.free_memory(), device.facts)
            try:
                self._load(engine)
            except BaseException:
                with suppress(CudaFailure):  # the first error is the one to report
                    self._held.close()
                raise

    def _load(self, engine: Engine) -> None:
        """Kernels, weights, copy streams."""
        device, held = self._device, self._held
        modules = {name: held.module(cubin) for name, cubin in engine.cubins.items()}
        functions = {
            kernel.name: device.function(modules[kernel.name], kernel.name, kernel.shared_bytes)
            for kernel in engine.plan.kernels
        }
        weights = self._upload_weights(engine.weights)
        resolver = Resolver(engine.plan, device, functions)
        self._streams = [EngineStream(device, engine.plan, resolver, weights, held) for _ in range(engine.copy_streams)]

    def _upload_weights(self, weights: Any) -> int:
        import numpy as np

        data = np.frombuffer(weights, dtype=np.uint8)
        address, stream = self._held.memory(data.nbytes), self._held.stream()
        self._device.upload(address, data, stream)
        self._device.synchronize(stream)
        return address

    def input_shape(self, name: str) -> tuple[int | str | None, ...]:
        """The declared shape of an input; the batch is 'N'."""
        return ("N", *Tensor(self._plan.inputs[name]).shape)

    def input_dtype(self, name: str) -> str:
        """The numpy name of an input's element type."""
        return str(Tensor(self._plan.inputs[name]).dtype)

    @property
    def gpu(self) -> DeviceFacts:
        """The device it runs on."""
        return self._device.facts

    @property
    def input_scale(self) -> float:
        """The real value of one step of the quantized input."""
        return float(self._plan.inputs[self.inputs[0]]["scale"])  # type: ignore[arg-type]

    def run(self, feeds: Mapping[str, Any]) -> Mapping[str, NDArray[Any]]:
        """All outputs for one batch; copies of the stream's buffers."""
        return {name: array.copy() for name, array in self._streams[0].execute(feeds).items()}

    def streams(self) -> Sequence[EngineStream]:
        """The copy streams."""
        return self._streams

    def allocate(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Page-locked host memory, uninitialized; no longer usable after ``close``."""
        import numpy as np

        size = np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64))
        with self._device.active("allocate page-locked memory"):
            memory = self._held.pinned(size)
        return memory.view(dtype).reshape(shape)

    def close(self) -> None:
        """Release all memory after the streams have finished; on a lost GPU there is nothing to release."""
        for stream in self._streams:
            self._held.before_that(stream.finish)
        with suppress(DeviceError), self._device.active("close the engine"):
            self._held.close()
        self._streams = []

    def place(self, feeds: Mapping[str, Any]) -> int:
        """Upload one batch into the first stream's inputs, for the methods below; returns the batch size."""
        with self._device.active("upload a batch"):
            return self._streams[0].place(feeds)

    def activations(self, batch: int) -> tuple[str, ...]:
        """Names of the buffers that a batch of this size fills, in order."""
        known = {buffer.name for buffer in self._plan.buffers}
        written = (name for launch in self._plan.program(batch).launches for name in launch.writes)
        return tuple(dict.fromkeys(name for name in written if name in known))

    def read_buffer(self, name: str, batch: int) -> NDArray[Any]:
        """The content of an activation's buffer after the last launch that writes it: uint8 [N, bytes of an image].

        Executes the launches up to that one on the inputs uploaded by ``place``, because later ones may reuse the memory.
        """
        program = self._plan.program(batch)
        buffer = next(buffer for buffer in self._plan.buffers if buffer.name == name)
        count = max(index for index, launch in enumerate(program.launches) if name in launch.writes) + 1
        stream = self._streams[0]
        with self._device.active(f"compute {name}"), Holdings(self._device) as held:
            for launch in stream.launches(batch)[:count]:
                self._device.launch(launch, stream.compute)
            content = held.pinned(buffer.bytes_per_image * batch)
            self._device.download(content, stream.arena + buffer.offset, stream.compute)
            self._device.synchronize(stream.compute)
            return content.reshape(batch, buffer.bytes_per_image).copy()

    def poison(self, value: int) -> None:
        """Set every byte of the first stream's buffers, but not the zeros around them, so that checks detect unwritten bytes."""
        stream = self._streams[0]
        with self._device.active("fill the buffers"):
            for buffer in self._plan.buffers:
                size = buffer.bytes_per_image * self._plan.max_batch
                self._device.fill(stream.arena + buffer.offset, value, size, stream.compute)
            self._device.synchronize(stream.compute)

    def launch_times(self, batch: int, repeat: int = 20) -> list[tuple[str, float]]:
        """Every launch in order: the operations it computes, and its milliseconds, averaged over ``repeat`` repetitions.

        They are launched as one graph, so that host overhead is not measured.
        """
        stream, device = self._streams[0], self._device
        times = []
        with device.active("time the launches"), Holdings(device) as held:
            first, last = held.event(timing=True), held.event(timing=True)
            for launch in stream.launches(batch):

                def enqueue(one: LaunchConfiguration = launch) -> None:
                    for _ in range(repeat):
                        device.launch(one, stream.compute)

                graph = held.graph(enqueue, stream.compute)
                device.launch_graph(graph, stream.compute)
                device.record(first, stream.compute)
                device.launch_graph(graph, stream.compute)
                device.record(last, stream.compute)
                device.synchronize_event(last)
                times.append((launch.label, device.elapsed_ms(first, last) / repeat))
        return times

    def run_resident(self, batch: int, times: int) -> float:
        """Milliseconds on the device for ``times`` replays of the graph on the inputs uploaded by ``place``."""
        stream, device = self._streams[0], self._device
        with device.active("replay the network"), Holdings(device) as held:
            graph = stream.graph(batch)
            first, last = held.event(timing=True), held.event(timing=True)
            device.record(first, stream.compute)
            for _ in range(times):
                device.launch_graph(graph, stream.compute)
            device.record(last, stream.compute)
            device.synchronize_event(last)
            return device.elapsed_ms(first, last)


def device_bytes(engine: Engine) -> int:
    """Device memory that a session of ``engine`` allocates."""
    plan = engine.plan
    tensors = (*plan.inputs.values(), *plan.outputs.values())
    in_flight = DEPTH * plan.max_batch * sum(Tensor(facts).bytes_per_image for facts in tensors)
    return memoryview(engine.weights).nbytes + engine.copy_streams * (plan.arena_bytes + in_flight)
