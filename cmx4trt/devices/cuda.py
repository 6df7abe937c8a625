"""The CUDA driver through NVIDIA's ``cuda-bindings``: the GPU that our engines run on. The only module that imports them.

Everything runs in the device's primary context. No context stays current between calls, so any thread may make them.
The bindings look up every libcuda function by the CUDA version that introduced it, so everything used here exists in all
drivers from 525 on (CUDA 12.0), with the bindings for CUDA 12 and 13.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from cmx4trt.base.install import pip_line
from cmx4trt.devices import tensor_maps
from cmx4trt.devices.active import Active
from cmx4trt.devices.base import DeviceFacts, LaunchConfiguration, Tiles, Windows
from cmx4trt.devices.by_symbol import elapsed_before_cuda_12_8, open_batch_copies
from cmx4trt.devices.cuda_errors import NOT_IN_DRIVER, CudaFailure, device_error, no_device, no_such_device
from cmx4trt.devices.kernel_module import driver_version
from cmx4trt.errors import DeviceError, MissingSoftwareError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cmx4trt.sessions.samples import SampleRows

_STREAM_NON_BLOCKING = 1
_EVENT_DEFAULT, _EVENT_DISABLE_TIMING = 0, 2
_NO_FLAGS = 0
"""Values of the CUDA driver API: CU_STREAM_NON_BLOCKING, CU_EVENT_DEFAULT, CU_EVENT_DISABLE_TIMING."""

_page_locked: dict[int, int] = {}
"""Address -> bytes of page-locked memory: all GPUs can read it, whichever it was allocated for (unified addressing)."""


@cache
def open_cuda(index: int = 0) -> CudaDevice:
    """A visible GPU, by default the first; its primary context stays until the process ends.

    Raises MissingSoftwareError without cuda-bindings, DeviceError without a driver or that GPU.
    """
    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise MissingSoftwareError(
            f"cuda-bindings cannot be imported ({error}); {pip_line('hopper')}, or use _cpu, which needs no GPU"
        ) from error
    return CudaDevice(driver, index)


class CudaDevice:
    """A GPU: see ``devices.base.ComputeDevice``."""

    def __init__(self, driver: Any, index: int = 0) -> None:
        """Open a GPU with the functions of ``driver``, the module ``cuda.bindings.driver``. Raises DeviceError."""
        self._driver = driver
        self._pinned = _page_locked
        self._early = driver.CUlaunchAttribute()
        self._early.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
        self._early.value.programmaticStreamSerializationAllowed = 1
        try:
            device, visible = self._open(index)
            self.facts = self._read_facts(device, index, visible)
            self._batch_copies = open_batch_copies(self.facts.cuda)
            self._context = self._call("cuDevicePrimaryCtxRetain", device)
        except CudaFailure as failure:
            raise device_error("open the GPU", failure) from failure

    def active(self, doing: str) -> Active:
        """Make the device's context current inside the block; CUDA errors become one sentence about ``doing``."""
        return Active(self._call, self._context, doing, self.facts.title)

    def free_memory(self) -> int:
        """Bytes that can be allocated now."""
        free, _ = self._call("cuMemGetInfo")
        return int(free)

    def allocate(self, size: int) -> int:
        """The address of ``size`` uninitialized bytes."""
        return int(self._call("cuMemAlloc", max(1, size)))

    def free(self, address: int) -> None:
        """Free memory from ``allocate``."""
        self._call("cuMemFree", address)

    def pinned(self, size: int) -> NDArray[Any]:
        """Page-locked host memory; every context may copy from it."""
        import numpy as np

        address = int(self._call("cuMemHostAlloc", max(1, size), _NO_FLAGS))
        self._pinned[address] = max(1, size)
        memory: Any = (ctypes.c_uint8 * size).from_address(address)
        return np.frombuffer(memory, dtype=np.uint8)

    def free_pinned(self, array: NDArray[Any]) -> None:
        """Free an array from ``pinned``."""
        del self._pinned[array.ctypes.data]
        self._call("cuMemFreeHost", array.ctypes.data)

    def is_pinned(self, array: NDArray[Any]) -> bool:
        """Whether ``array`` is contiguous and in memory from ``pinned``."""
        first = array.ctypes.data
        pinned = list(self._pinned.items())  # atomically: other threads may allocate meanwhile
        inside = any(start <= first and first + array.nbytes <= start + size for start, size in pinned)
        return inside and array.flags.c_contiguous

    def fill(self, address: int, value: int, size: int, stream: int) -> None:
        """Begin to set bytes."""
        if size:
            self._call("cuMemsetD8Async", address, value, size, stream)

    def upload(self, address: int, array: NDArray[Any], stream: int) -> None:
        """Begin to copy to the device."""
        if array.nbytes:
            self._call("cuMemcpyHtoDAsync", address, array.ctypes.data, array.nbytes, stream)

    def upload_rows(self, address: int, batch: SampleRows, stream: int) -> None:
        """Begin to copy rows of page-locked samples, in one call if the driver supports it."""
        size, (begin, counts) = batch.sample_bytes, batch.runs()
        targets, sources = address + begin * size, batch.samples.ctypes.data + batch.rows[begin] * size
        if len(begin) > 1 and self._batch_copies is not None:
            if status := self._batch_copies.begin(targets, sources, counts * size, stream):
                raise CudaFailure("cuMemcpyBatchAsync", self._driver.CUresult(status).name)
            return
        for target, source, count in zip(targets.tolist(), sources.tolist(), counts.tolist(), strict=True):
            self._call("cuMemcpyHtoDAsync", target, source, count * size, stream)

    def download(self, array: NDArray[Any], address: int, stream: int) -> None:
        """Begin to copy from the device."""
        self._call("cuMemcpyDtoHAsync", array.ctypes.data, address, array.nbytes, stream)

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        """Begin to copy on the device."""
        self._call("cuMemcpyDtoDAsync", target, source, size, stream)

    def new_stream(self) -> int:
        """A stream that does not wait for the default stream."""
        return int(self._call("cuStreamCreate", _STREAM_NON_BLOCKING))

    def free_stream(self, stream: int) -> None:
        """Destroy a stream."""
        self._call("cuStreamDestroy", stream)

    def synchronize(self, stream: int) -> None:
        """Block until the stream is done; other threads keep running."""
        self._call("cuStreamSynchronize", stream)

    def new_event(self, timing: bool = False) -> int:
        """An event."""
        return int(self._call("cuEventCreate", _EVENT_DEFAULT if timing else _EVENT_DISABLE_TIMING))

    def free_event(self, event: int) -> None:
        """Destroy an event."""
        self._call("cuEventDestroy", event)

    def record(self, event: int, stream: int) -> None:
        """Record the event on the stream."""
        self._call("cuEventRecord", event, stream)

    def wait_event(self, stream: int, event: int) -> None:
        """Make the stream wait for the event."""
        self._call("cuStreamWaitEvent", stream, event, _NO_FLAGS)

    def synchronize_event(self, event: int) -> None:
        """Block until the event has completed; other threads keep running."""
        self._call("cuEventSynchronize", event)

    def elapsed_ms(self, first: int, last: int) -> float:
        """Milliseconds between two events."""
        try:
            return float(self._call("cuEventElapsedTime", first, last))
        except CudaFailure as failure:
            if failure.status != NOT_IN_DRIVER:
                raise
        return elapsed_before_cuda_12_8(first, last)

    def load(self, cubin: Any) -> int:
        """A module from the bytes of a cubin."""
        return int(self._call("cuModuleLoadData", bytes(cubin)))

    def unload(self, module: int) -> None:
        """Unload a module."""
        self._call("cuModuleUnload", module)

    def function(self, module: int, name: str, shared_bytes: int) -> int:
        """A module's kernel, allowed to use this much dynamic shared memory."""
        function = self._call("cuModuleGetFunction", module, name.encode())
        attribute = self._driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        self._call("cuFuncSetAttribute", function, attribute, shared_bytes)
        return int(function)

    def encode_tiles(self, tiles: Tiles) -> bytes:
        """A tiled CUtensorMap."""
        return _bytes_of(self._call("cuTensorMapEncodeTiled", *tensor_maps.tiled(self._driver, tiles)))

    def encode_windows(self, windows: Windows) -> bytes:
        """An im2col CUtensorMap."""
        return _bytes_of(self._call("cuTensorMapEncodeIm2col", *tensor_maps.im2col(self._driver, windows)))

    def launch(self, configuration: LaunchConfiguration, stream: int) -> None:
        """Launch a kernel; its cluster size is compiled in."""
        one, parameters = configuration, tensor_maps.Parameters(configuration.values)
        config = self._driver.CUlaunchConfig()
        config.gridDimX, config.gridDimY, config.gridDimZ = one.blocks, 1, 1
        config.blockDimX, config.blockDimY, config.blockDimZ = one.threads, 1, 1
        config.sharedMemBytes, config.hStream = one.shared_bytes, stream
        if one.early:
            config.attrs, config.numAttrs = [self._early], 1
        self._call("cuLaunchKernelEx", config, one.function, parameters.address, 0)

    def capture(self, enqueue: Callable[[], None], stream: int) -> int:
        """Capture an executable graph. Work of other threads on other streams is not affected."""
        mode = self._driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call("cuStreamBeginCapture", stream, mode)
        try:
            enqueue()
        except BaseException:
            with suppress(CudaFailure):  # the first error is the one to report
                self._call("cuGraphDestroy", self._call("cuStreamEndCapture", stream))
            raise
        graph = self._call("cuStreamEndCapture", stream)
        try:
            return int(self._call("cuGraphInstantiate", graph, _NO_FLAGS))
        finally:
            self._call("cuGraphDestroy", graph)

    def launch_graph(self, graph: int, stream: int) -> None:
        """Begin to execute a graph."""
        self._call("cuGraphLaunch", graph, stream)

    def free_graph(self, graph: int) -> None:
        """Destroy a graph."""
        self._call("cuGraphExecDestroy", graph)

    def _open(self, index: int) -> tuple[Any, int]:
        """The device with this index, and the number of devices."""
        try:
            self._call("cuInit", 0)
            count = int(self._call("cuDeviceGetCount"))
        except CudaFailure as failure:
            reason = str(failure.__cause__ or failure.status)
            if failure.status == NOT_IN_DRIVER and "Function" in reason:
                raise  # there is a libcuda, but it is too old
            raise DeviceError(no_device(reason)) from failure
        if count == 0:
            raise DeviceError(no_device("the driver reports none"))
        if index >= count:
            raise DeviceError(no_such_device(index, count))
        return self._call("cuDeviceGet", index), count

    def _read_facts(self, device: Any, index: int, visible: int) -> DeviceFacts:
        attribute = self._driver.CUdevice_attribute
        major, minor, multiprocessors = (
            int(self._call("cuDeviceGetAttribute", getattr(attribute, f"CU_DEVICE_ATTRIBUTE_{name}"), device))
            for name in ("COMPUTE_CAPABILITY_MAJOR", "COMPUTE_CAPABILITY_MINOR", "MULTIPROCESSOR_COUNT")
        )
        return DeviceFacts(
            name=_text(self._call("cuDeviceGetName", 256, device)),
            capability=(major, minor),
            multiprocessors=multiprocessors,
            memory_bytes=int(self._call("cuDeviceTotalMem", device)),
            cuda=int(self._call("cuDriverGetVersion")),
            driver=driver_version(),
            pci_bus_id=_text(self._call("cuDeviceGetPCIBusId", 32, device)),
            index=index,
            visible=visible,
        )

    def _call(self, function: str, *arguments: Any) -> Any:
        """The function's result: None, one value, or several. Raises CudaFailure."""
        try:
            status, *results = getattr(self._driver, function)(*arguments)
        except RuntimeError as error:  # the bindings found no libcuda, or no such function in it
            raise CudaFailure(function, NOT_IN_DRIVER) from error
        if status != 0:
            raise CudaFailure(function, str(getattr(status, "name", status)))
        return results[0] if len(results) == 1 else results or None


def _text(buffer: bytes) -> str:
    return buffer.split(b"\0")[0].decode(errors="replace")


def _bytes_of(tensor_map: Any) -> bytes:
    return ctypes.string_at(int(tensor_map.getPtr()), tensor_maps.SIZE)
