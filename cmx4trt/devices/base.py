"""What an engine of ours needs of a GPU: the interface between a session and the CUDA driver, or a stand-in of it.

Handles are opaque numbers. Unless a method says otherwise it is to be called inside ``active``, which makes the device's
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
    """A GPU as the CUDA driver shows it."""

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    memory_bytes: int
    cuda: int
    """The newest CUDA version that the driver supports, as it tells it: 12040 is 12.4."""
    driver: str = ""
    """The driver's own version; empty where the system does not tell."""
    pci_bus_id: str = ""
    """Its address, by which NVML knows it too."""
    index: int = 0
    visible: int = 1
    """Its number among the GPUs that this process may use, from 0, and how many those are."""

    @property
    def title(self) -> str:
        """Its name, with its number where there are several."""
        return f"GPU {self.index} ({self.name})" if self.visible > 1 else self.name


class Pointer(int):
    """A device address as a kernel's argument."""


Value = int | Pointer | float | bytes
"""A kernel's argument: int32, address, float32, or the 128 bytes of a CUtensorMap."""


@dataclass(frozen=True, slots=True)
class LaunchConfiguration:
    """A kernel with its arguments, ready to launch; ``label`` says in reports and errors what it computes."""

    function: int
    blocks: int
    threads: int
    shared_bytes: int
    values: tuple[Value, ...]
    label: str
    early: bool = False
    """Whether it may begin while the launch before it on the stream still runs: its kernel waits for that one's end itself."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """A tiled CUtensorMap over bytes, with numbers for everything (see ``backends.hopper.plan.TiledMap``)."""

    address: int
    extents: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...]
    swizzle: int


@dataclass(frozen=True, slots=True)
class Windows:
    """An im2col CUtensorMap over bytes, with numbers for everything (see ``backends.hopper.plan.WindowMap``)."""

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
        """What it is."""

    def active(self, doing: str) -> AbstractContextManager[None]:
        """Make the device current meanwhile; errors inside become one sentence about ``doing``."""

    def free_memory(self) -> int:
        """Bytes that can be allocated now."""

    def allocate(self, size: int) -> int:
        """The address of ``size`` uninitialised bytes, aligned to 256."""

    def free(self, address: int) -> None:
        """Give memory from ``allocate`` back."""

    def pinned(self, size: int) -> NDArray[Any]:
        """``size`` bytes of page-locked host memory as uint8, given back by ``free_pinned`` or when the process ends."""

    def free_pinned(self, array: NDArray[Any]) -> None:
        """Give the array of ``pinned`` back; no view of it may be used any more."""

    def is_pinned(self, array: NDArray[Any]) -> bool:
        """Whether ``array`` lies, contiguous, in memory from ``pinned``. May be called anywhere."""

    def fill(self, address: int, value: int, size: int, stream: int) -> None:
        """Begin to set ``size`` bytes to ``value``."""

    def upload(self, address: int, array: NDArray[Any], stream: int) -> None:
        """Begin to copy a contiguous host array to the device; if it is page-locked, it is read later."""

    def upload_rows(self, address: int, batch: SampleRows, stream: int) -> None:
        """Begin to copy rows of page-locked samples to the device, one after another; they are read later."""

    def download(self, array: NDArray[Any], address: int, stream: int) -> None:
        """Begin to fill a contiguous, page-locked host array from the device."""

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        """Begin to copy from device to device."""

    def new_stream(self) -> int:
        """A stream that does not wait for the default stream."""

    def free_stream(self, stream: int) -> None:
        """Give a stream back."""

    def synchronize(self, stream: int) -> None:
        """Block until the stream has done everything."""

    def new_event(self, timing: bool = False) -> int:
        """An event."""

    def free_event(self, event: int) -> None:
        """Give an event back."""

    def record(self, event: int, stream: int) -> None:
        """Let the event happen when the stream has done what it was given so far."""

    def wait_event(self, stream: int, event: int) -> None:
        """Let whatever the stream is given next wait for the event."""

    def synchronize_event(self, event: int) -> None:
        """Block until the event has happened."""

    def elapsed_ms(self, first: int, last: int) -> float:
        """Milliseconds between two events with timing that have happened."""

    def load(self, cubin: Any) -> int:
        """A module from the bytes of a cubin."""

    def unload(self, module: int) -> None:
        """Give a module back."""

    def function(self, module: int, name: str, shared_bytes: int) -> int:
        """A module's kernel, allowed to use that much dynamic shared memory."""

    def encode_tiles(self, tiles: Tiles) -> bytes:
        """A tiled CUtensorMap."""

    def encode_windows(self, windows: Windows) -> bytes:
        """An im2col CUtensorMap."""

    def launch(self, configuration: LaunchConfiguration, stream: int) -> None:
        """Begin to execute a kernel."""

    def capture(self, enqueue: Callable[[], None], stream: int) -> int:
        """Record what ``enqueue`` gives the stream as an executable graph; nothing is executed."""

    def launch_graph(self, graph: int, stream: int) -> None:
        """Begin to execute a graph."""

    def free_graph(self, graph: int) -> None:
        """Give a graph back."""
