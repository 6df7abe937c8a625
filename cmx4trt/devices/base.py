"""What our engines need from a GPU: the interface between a session and the CUDA driver, or a fake driver.

Handles are opaque numbers. Unless stated otherwise, methods must be called inside ``active``, which makes the device's
context current in the calling thread; every method raises DeviceError with one sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cmx4trt.sessions.samples import SampleRows


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """A GPU as reported by the CUDA driver."""

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    memory_bytes: int
    cuda: int
    """The newest CUDA version that the driver supports, in the driver's format: 12040 is 12.4."""
    driver: str = ""
    """The version of the driver itself; empty if the system does not report it."""
    pci_bus_id: str = ""
    """Its PCI address, which also identifies it in NVML."""
    index: int = 0
    visible: int = 1
    """Its index among the GPUs that this process may use, from 0, and the number of those."""

    @property
    def title(self) -> str:
        """Its name, with its index if there are several."""
        return f"GPU {self.index} ({self.name})" if self.visible > 1 else self.name


class Pointer(int):
    """A device address as a kernel argument."""


Value = int | Pointer | float | bytes
"""A kernel argument: int32, address, float32, or the 128 bytes of a CUtensorMap."""


@dataclass(frozen=True, slots=True)
class LaunchConfiguration:
    """A kernel with its arguments, ready to launch; ``label`` describes in reports and errors what it computes."""

    function: int
    blocks: int
    threads: int
    shared_bytes: int
    values: tuple[Value, ...]
    label: str
    early: bool = False
    """Whether it may start while the previous launch on the stream is still running (programmatic dependent launch)."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """A tiled CUtensorMap over bytes, with all numbers known (see ``backends.hopper.plan.TiledMap``)."""

    address: int
    extents: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...]
    swizzle: int


@dataclass(frozen=True, slots=True)
class Windows:
    """An im2col CUtensorMap over bytes, with all numbers known (see ``backends.hopper.plan.WindowMap``)."""

    address: int
    extents: tuple[int, int, int, int]
    """Channels, width, height, images."""
    lower_corner: tuple[int, int]
    upper_corner: tuple[int, int]
    stride: int
    channels_per_pixel: int
    pixels: int
    swizzle: int


class ComputeDevice(Protocol):
    """One GPU."""

    @property
    def facts(self) -> DeviceFacts:
        """The GPU's properties."""

    def active(self, doing: str) -> AbstractContextManager[None]:
        """Make the device current inside the block; errors become one sentence about ``doing``."""

    def free_memory(self) -> int:
        """Bytes that can be allocated now."""

    def allocate(self, size: int) -> int:
        """The address of ``size`` uninitialized bytes, aligned to 256."""

    def free(self, address: int) -> None:
        """Free memory from ``allocate``."""

    def pinned(self, size: int) -> NDArray[Any]:
        """``size`` bytes of page-locked host memory as uint8, freed by ``free_pinned`` or when the process ends."""

    def free_pinned(self, array: NDArray[Any]) -> None:
        """Free an array from ``pinned``; its views must no longer be used."""

    def is_pinned(self, array: NDArray[Any]) -> bool:
        """Whether ``array`` is contiguous and in memory from ``pinned``. May be called anywhere."""

    def fill(self, address: int, value: int, size: int, stream: int) -> None:
        """Begin to set ``size`` bytes to ``value``."""

    def upload(self, address: int, array: NDArray[Any], stream: int) -> None:
        """Begin to copy a contiguous host array to the device; a page-locked one is read asynchronously."""

    def upload_rows(self, address: int, batch: SampleRows, stream: int) -> None:
        """Begin to copy rows of page-locked samples to the device, one after another; they are read asynchronously."""

    def download(self, array: NDArray[Any], address: int, stream: int) -> None:
        """Begin to fill a contiguous, page-locked host array from the device."""

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        """Begin to copy from device to device."""

    def new_stream(self) -> int:
        """A stream that does not wait for the default stream."""

    def free_stream(self, stream: int) -> None:
        """Destroy a stream."""

    def synchronize(self, stream: int) -> None:
        """Block until the stream has finished all its work."""

    def new_event(self, timing: bool = False) -> int:
        """An event."""

    def free_event(self, event: int) -> None:
        """Destroy an event."""

    def record(self, event: int, stream: int) -> None:
        """Record the event: it completes when the stream has finished its work so far."""

    def wait_event(self, stream: int, event: int) -> None:
        """Make subsequent work on the stream wait for the event."""

    def synchronize_event(self, event: int) -> None:
        """Block until the event has completed."""

    def elapsed_ms(self, first: int, last: int) -> float:
        """Milliseconds between two completed events with timing."""

    def load(self, cubin: Any) -> int:
        """A module from the bytes of a cubin."""

    def unload(self, module: int) -> None:
        """Unload a module."""

    def function(self, module: int, name: str, shared_bytes: int) -> int:
        """A module's kernel, allowed to use this much dynamic shared memory."""

    def encode_tiles(self, tiles: Tiles) -> bytes:
        """A tiled CUtensorMap."""

    def encode_windows(self, windows: Windows) -> bytes:
        """An im2col CUtensorMap."""

    def launch(self, configuration: LaunchConfiguration, stream: int) -> None:
        """Begin to execute a kernel."""

    def capture(self, enqueue: Callable[[], None], stream: int) -> int:
        """Capture what ``enqueue`` puts on the stream as an executable graph; nothing is executed."""

    def launch_graph(self, graph: int, stream: int) -> None:
        """Begin to execute a graph."""

    def free_graph(self, graph: int) -> None:
        """Destroy a graph."""
