"""The GPU of this machine through pycuda: its properties, memory, copies and streams. The only module that imports pycuda.

Everything runs in the device's primary context, which TensorRT uses too. No context stays current between calls,
so any thread may make them.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from cmx4trt.base.install import pip_line
from cmx4trt.devices.cuda_errors import no_such_device
from cmx4trt.devices.kernel_module import VERSION_FILE, driver_version
from cmx4trt.devices.placement import Placement
from cmx4trt.errors import DeviceError, MissingSoftwareError

if TYPE_CHECKING:
    from numpy.typing import NDArray

VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"
"""Environment variable that hides and orders GPUs (CUDA C++ Programming Guide, "CUDA Environment Variables")."""
_BUILD_WITHOUT = "_cpu builds without one"
_MIG_MARK = " MIG "
"""Part of the CUDA name of a MIG instance, as in 'NVIDIA A100-SXM4-40GB MIG 1g.5gb' (MIG User Guide)."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A device as reported by CUDA; ``visible`` counts the devices this process may use, of which this is the first."""

    name: str
    compute_capability: str
    multiprocessors: int
    memory_bytes: int
    mig: bool
    visible: int
    visible_devices: str | None
    cuda: str
    """The newest CUDA version that the driver supports."""
    driver: str
    """The version of the driver itself; empty if the system does not report it."""

    @property
    def sm(self) -> str:
        """The compute capability in the format of targets: 'sm90'."""
        return "sm" + self.compute_capability.replace(".", "")

    def to_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return asdict(self)

    def identity(self) -> dict[str, str]:
        """What an engine built for exactly this GPU depends on, for the fingerprint."""
        return {
            "gpu": self.name,
            "compute_capability": self.compute_capability,
            "multiprocessors": str(self.multiprocessors),
            "driver": self.driver or self.cuda,
        }


@dataclass(frozen=True, slots=True)
class Memory:
    """Device memory in bytes."""

    free: int
    total: int


@cache
def local_gpu(index: int = 0, version_file: str = VERSION_FILE) -> Gpu:
    """A visible GPU, by default the first.

    Raises MissingSoftwareError without pycuda, DeviceError without a driver or that device.
    """
    cuda = _initialized()
    count = cuda.Device.count()
    if count == 0:
        raise DeviceError(_no_device("the driver reports none"), advice=_BUILD_WITHOUT)
    if index >= count:
        raise DeviceError(no_such_device(index, count))
    device = cuda.Device(index)
    name = device.name()
    attribute = cuda.device_attribute
    version = cuda.get_driver_version()
    return Gpu(
        name=name,
        compute_capability="{}.{}".format(*device.compute_capability()),
        multiprocessors=device.get_attribute(attribute.MULTIPROCESSOR_COUNT),
        memory_bytes=device.total_memory(),
        mig=_MIG_MARK in f"{name} ",
        visible=count,
        visible_devices=os.environ.get(VISIBLE_DEVICES),
        cuda=f"{version // 1000}.{version % 1000 // 10}",
        driver=driver_version(version_file),
    )


@cache
def open_device(index: int = 0) -> Device:
    """A visible GPU, ready to work; its primary context stays until the process ends. Raises as ``local_gpu``."""
    gpu, cuda = local_gpu(index), _initialized()
    with _translated(f"open {gpu.name}"):
        device = cuda.Device(index)
        placement = Placement(index, gpu.name, device.pci_bus_id())
        return Device(gpu, cuda, device.retain_primary_context(), placement)


class Device:
    """A GPU's memory, copies and streams; every call may come from any thread. All raise DeviceError."""

    def __init__(self, gpu: Gpu, cuda: Any, context: Any, placement: Placement) -> None:
        self.gpu = gpu
        self.placement = placement
        self._cuda = cuda
        self._context = context

    @property
    def title(self) -> str:
        """Its name, with its index if there are several."""
        return f"GPU {self.placement.index} ({self.gpu.name})" if self.gpu.visible > 1 else self.gpu.name

    @contextmanager
    def active(self, doing: str) -> Iterator[None]:
        """Make the device's context current inside the block; CUDA errors become one sentence about ``doing``."""
        with _translated(f"{doing} on {self.title}"):
            self._context.push()
            try:
                yield
            finally:
                self._cuda.Context.pop()

    def memory(self) -> Memory:
        """Free and total memory now."""
        with self.active("query the free memory"):
            return Memory(*self._cuda.mem_get_info())

    def stream(self) -> Any:
        """A new stream; ``.handle`` is its CUstream as a number. Must be called while active."""
        return self._cuda.Stream()

    def event(self) -> Any:
        """A new event without timing. Must be called while active."""
        return self._cuda.Event(self._cuda.event_flags.DISABLE_TIMING)

    def allocate(self, size: int) -> Any:
        """``size`` bytes of device memory, freed with the object; ``int()`` of it is the address. Must be called while active."""
        return self._cuda.mem_alloc(size)

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Uninitialized page-locked host memory, for copies without a staging buffer."""
        with self.active("allocate page-locked memory"):
            array: NDArray[Any] = self._cuda.pagelocked_empty(shape, dtype)
        return array

    def is_pinned(self, array: NDArray[Any]) -> bool:
        """Whether ``array`` is contiguous and in memory from ``pinned``."""
        owner: Any = array
        while getattr(owner, "base", None) is not None:
            owner = owner.base
        return array.flags.c_contiguous and isinstance(owner, self._cuda.PagelockedHostAllocation)

    def upload(self, address: int, array: NDArray[Any], stream: Any) -> None:
        """Begin to copy page-locked ``array`` to the device. Must be called while active."""
        self._cuda.memcpy_htod_async(address, array, stream)

    def download(self, array: NDArray[Any], address: int, stream: Any) -> None:
        """Begin to fill page-locked ``array`` from the device. Must be called while active."""
        self._cuda.memcpy_dtoh_async(array, address, stream)


def check_workspace(size: int, device: Device) -> None:
    """Reject a workspace limit that exceeds this GPU's free memory. Raises DeviceError."""
    memory = device.memory()
    if size > memory.free:
        raise DeviceError(
            f"workspace_size is {size >> 20} MiB, expected at most {memory.free >> 20} MiB, the free memory of "
            f"{device.gpu.name} ({memory.total >> 20} MiB in total); give --workspace_size={memory.free >> 20}MiB or less"
        )


def _initialized() -> Any:
    """``pycuda.driver`` after cuInit."""
    try:
        import pycuda.driver as cuda
    except ImportError as error:
        # The GPU is checked first: without one, pycuda would not help.
        if (missing := why_no_driver()) or "undefined symbol: cu" in str(error):
            raise DeviceError(
                f"this machine has no NVIDIA GPU with a driver: {missing or error}", advice=_BUILD_WITHOUT
            ) from error
        raise MissingSoftwareError(
            f"pycuda, which is needed to use the GPU, cannot be imported ({error}); {pip_line('cuda')}"
        ) from error
    try:
        cuda.init()
    except cuda.Error as error:
        raise DeviceError(_no_device(str(error)), advice=_BUILD_WITHOUT) from error
    return cuda


def why_no_driver() -> str:
    """What the system reports if NVIDIA's driver is missing; empty if it is present."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return str(error)
    return ""


def _no_device(reason: str) -> str:
    hidden = os.environ.get(VISIBLE_DEVICES)
    hint = f" with {VISIBLE_DEVICES}='{hidden}'" if hidden is not None else ""
    return f"there is no usable NVIDIA GPU{hint} ({reason})"


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    import pycuda.driver as cuda

    try:
        yield
    except cuda.Error as error:
        raise DeviceError(f"could not {doing}: {str(error).strip()}") from error
