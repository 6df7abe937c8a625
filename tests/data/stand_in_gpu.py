"""A stand-in of ``devices.base.ComputeDevice``: a GPU made of numpy arrays, whose kernels are Python functions.

Work is done as late as a real GPU may do it: when something waits for it. So that what forgets to wait, reads what was there
before. Memory begins as 0xCD; whatever is not given back, or reached beyond its bounds, is an AssertionError.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmx4trt.devices.base import DeviceFacts, LaunchConfiguration, Tiles, Windows
from cmx4trt.devices.cuda_errors import CudaFailure, device_error
from cmx4trt.sessions.samples import SampleRows

H100 = DeviceFacts("NVIDIA H100 80GB HBM3", (9, 0), 132, 80 << 30, 12040, "550.54.15")

Kernel = Callable[["StandInGpu", LaunchConfiguration], None]


class StandInGpu:
    def __init__(self, kernels: Mapping[str, Kernel], facts: DeviceFacts = H100) -> None:
        self.facts = facts
        self.kernels = kernels
        self.free_bytes = facts.memory_bytes
        self.maps: dict[bytes, Tiles | Windows] = {}
        self.fail: dict[str, str] = {}
        """Method -> the driver's status with which it fails."""
        self.launched: list[str] = []
        self.graphs_recorded = 0
        self._memory: dict[int, NDArray[Any]] = {}
        self._pinned: dict[int, NDArray[Any]] = {}
        self._modules: dict[int, bytes] = {}
        self._functions: dict[int, str] = {}
        self._queues: dict[int, deque[Callable[[], None]]] = {}
        self._events: dict[int, tuple[int, int]] = {}
        """Event -> its stream, and how often it was recorded."""
        self._happened: dict[int, int] = {}
        self._graphs: dict[int, list[Callable[[], None]]] = {}
        self._recording: dict[int, list[Callable[[], None]]] = {}
        self._next = 0x7F00_0000_0000
        self._current = threading.local()

    # What tests ask

    def held(self) -> dict[str, int]:
        """How much of everything is held; empty when all was given back."""
        holdings = {
            "memory": len(self._memory),
            "pinned": len(self._pinned),
            "modules": len(self._modules),
            "streams": len(self._queues),
            "events": len(self._events),
            "graphs": len(self._graphs),
        }
        return {name: count for name, count in holdings.items() if count}

    def view(self, address: int, size: int) -> NDArray[Any]:
        """The bytes at an address, of the device or page-locked; AssertionError unless they lie in one allocation."""
        for start, block in (*self._memory.items(), *self._pinned.items()):
            if start <= address and address + size <= start + block.nbytes:
                return block[address - start : address - start + size]
        raise AssertionError(f"{size} bytes at {address:#x} are not allocated")

    # ComputeDevice

    @contextmanager
    def active(self, doing: str) -> Iterator[None]:
        self._current.depth = getattr(self._current, "depth", 0) + 1
        try:
            yield
        except CudaFailure as failure:
            raise device_error(f"{doing} on {self.facts.title}", failure) from failure
        finally:
            self._current.depth -= 1

    def free_memory(self) -> int:
        self._called("free_memory")
        return self.free_bytes

    def allocate(self, size: int) -> int:
        self._called("allocate")
        if size > self.free_bytes:
            raise CudaFailure("cuMemAlloc", "CUDA_ERROR_OUT_OF_MEMORY")
        self.free_bytes -= size
        address = self._handle(size)
        self._memory[address] = np.full(size, 0xCD, np.uint8)
        return address

    def free(self, address: int) -> None:
        self._called("free")
        self.free_bytes += self._memory.pop(address).nbytes

    def pinned(self, size: int) -> NDArray[Any]:
        self._called("pinned")
        array = np.full(size, 0xCD, np.uint8)
        self._pinned[array.ctypes.data] = array
        return array[:]

    def free_pinned(self, array: NDArray[Any]) -> None:
        self._called("free_pinned")
        del self._pinned[array.ctypes.data]

    def is_pinned(self, array: NDArray[Any]) -> bool:
        first = array.ctypes.data
        return array.flags.c_contiguous and any(
            start <= first and first + array.nbytes <= start + block.nbytes for start, block in self._pinned.items()
        )

    def fill(self, address: int, value: int, size: int, stream: int) -> None:
        self._called("fill")
        self._enqueue(stream, lambda: self.view(address, size).fill(value))

    def upload(self, address: int, array: NDArray[Any], stream: int) -> None:
        self._called("upload")
        assert array.flags.c_contiguous
        source = array if self.is_pinned(array) else array.copy()
        target = self.view(address, array.nbytes)
        self._enqueue(stream, lambda: np.copyto(target, source.reshape(-1).view(np.uint8)))

    def upload_rows(self, address: int, batch: SampleRows, stream: int) -> None:
        self._called("upload_rows")
        assert self.is_pinned(batch.samples)
        rows = batch.rows.copy()
        target = self.view(address, len(rows) * batch.sample_bytes)
        self._enqueue(stream, lambda: np.copyto(target, batch.samples[rows].reshape(-1).view(np.uint8)))

    def download(self, array: NDArray[Any], address: int, stream: int) -> None:
        self._called("download")
        assert self.is_pinned(array)
        source = self.view(address, array.nbytes)
        self._enqueue(stream, lambda: np.copyto(array.reshape(-1).view(np.uint8), source), recordable=True)

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        self._called("copy")
        self._enqueue(stream, lambda: np.copyto(self.view(target, size), self.view(source, size)))

    def new_stream(self) -> int:
        self._called("new_stream")
        stream = self._handle()
        self._queues[stream] = deque()
        return stream

    def free_stream(self, stream: int) -> None:
        self._called("free_stream")
        work = self._queues.pop(stream)
        assert not work or self.fail, "a stream with work was destroyed"

    def synchronize(self, stream: int) -> None:
        self._called("synchronize")
        while self._queues[stream]:
            self._queues[stream].popleft()()

    def new_event(self, timing: bool = False) -> int:
        self._called("new_event")
        event = self._handle()
        self._events[event], self._happened[event] = (0, 0), 0
        return event

    def free_event(self, event: int) -> None:
        self._called("free_event")
        del self._events[event]

    def record(self, event: int, stream: int) -> None:
        self._called("record")
        count = self._events[event][1] + 1
        self._events[event] = (stream, count)
        self._enqueue(stream, lambda: self._happened.update({event: count}))

    def wait_event(self, stream: int, event: int) -> None:
        self._called("wait_event")
        source, count = self._events[event]
        self._enqueue(stream, lambda: self._until(event, source, count))

    def synchronize_event(self, event: int) -> None:
        self._called("synchronize_event")
        self._until(event, *self._events[event])

    def elapsed_ms(self, first: int, last: int) -> float:
        self._called("elapsed_ms")
        assert self._happened[first]
        assert self._happened[last]
        return 1.0

    def load(self, cubin: Any) -> int:
        self._called("load")
        module = self._handle()
        self._modules[module] = bytes(cubin)
        return module

    def unload(self, module: int) -> None:
        self._called("unload")
        del self._modules[module]

    def function(self, module: int, name: str, shared_bytes: int) -> int:
        self._called("function")
        assert module in self._modules
        function = self._handle()
        self._functions[function] = name
        return function

    def encode_tiles(self, tiles: Tiles) -> bytes:
        self._called("encode_tiles")
        assert len(tiles.extents) == len(tiles.box) == len(tiles.strides) + 1 <= 5
        return self._encoded(tiles)

    def encode_windows(self, windows: Windows) -> bytes:
        self._called("encode_windows")
        return self._encoded(windows)

    def launch(self, configuration: LaunchConfiguration, stream: int) -> None:
        self._called("launch")
        assert configuration.blocks > 0
        self._enqueue(stream, lambda: self._execute(configuration), recordable=True)

    def capture(self, enqueue: Callable[[], None], stream: int) -> int:
        self._called("capture")
        self._recording[stream] = []
        try:
            enqueue()
        finally:
            recorded = self._recording.pop(stream)
        graph = self._handle()
        self._graphs[graph] = recorded
        self.graphs_recorded += 1
        return graph

    def launch_graph(self, graph: int, stream: int) -> None:
        self._called("launch_graph")
        for work in self._graphs[graph]:
            self._enqueue(stream, work)

    def free_graph(self, graph: int) -> None:
        self._called("free_graph")
        del self._graphs[graph]

    # Inside

    def _called(self, method: str) -> None:
        assert getattr(self._current, "depth", 0) > 0, f"{method} was called while the device was not active"
        if method in self.fail:
            raise CudaFailure(method, self.fail[method])

    def _handle(self, size: int = 1) -> int:
        handle = self._next
        self._next += -(-max(1, size) // 256) * 256 + 4096
        return handle

    def _encoded(self, recipe: Tiles | Windows) -> bytes:
        key = len(self.maps).to_bytes(128, "little")
        self.maps[key] = recipe
        return key

    def _enqueue(self, stream: int, work: Callable[[], None], recordable: bool = False) -> None:
        recording = self._recording.get(stream)
        assert recording is None or recordable, "only kernels and downloads are recorded"
        (self._queues[stream] if recording is None else recording).append(work)

    def _execute(self, configuration: LaunchConfiguration) -> None:
        name = self._functions[configuration.function]
        self.launched.append(name)
        self.kernels[name](self, configuration)

    def _until(self, event: int, stream: int, count: int) -> None:
        while self._happened[event] < count:
            self._queues[stream].popleft()()
