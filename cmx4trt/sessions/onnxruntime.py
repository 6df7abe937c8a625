"""Runs graphs in ONNX Runtime; the only module that imports it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cmx4trt.base.telemetry import switch_off
from cmx4trt.errors import DeviceError, MissingSoftwareError, ModelError
from cmx4trt.ir.float32_quantize import quantize_in_float32
from cmx4trt.ir.onnx_file import EncodedGraph
from cmx4trt.ir.tensor import Tensor
from cmx4trt.sessions.base import Stream, SynchronousStream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cmx4trt.devices.placement import Placement

    _Run = Callable[[Mapping[str, NDArray[Any]]], dict[str, NDArray[Any]]]

CPU = ("CPUExecutionProvider",)
DEVICE_STREAMS = 2
"""On a GPU, one batch is copied while another is computed. Concurrent runs get their own CUDA streams."""
_AS_WRITTEN = ("session.disable_quant_qdq", "1")
"""QuantizeLinear and DequantizeLinear are computed as written. ONNX Runtime would fuse them into integer kernels, which round
biases to whole steps, and whose sums of uint8 times int8 saturate at 16 bits on x86 processors without VNNI
(onnxruntime.ai, Quantize ONNX models, "Data type selection"); an INT8 graph is verified as it was built."""
_PROVIDER_WORDS = {CPU[0]: "CPU", "CUDAExecutionProvider": "CUDA"}
_NUMPY_NAMES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
}


def fastest_providers() -> tuple[str, ...]:
    """The CUDA provider if this ONNX Runtime has one, with the CPU as fallback."""
    ort = _import_onnxruntime()
    available = ort.get_available_providers()
    if "CUDAExecutionProvider" in available and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # CUDA and cuDNN from pip's nvidia packages, if they are not found elsewhere
    return tuple(name for name in ("CUDAExecutionProvider", *CPU) if name in available)


class OnnxRuntimeSession:
    """A graph ready to run: see ``sessions.base.Session``."""

    min_batch = 1
    max_batch: int | None = None
    gathers = False
    placements: tuple[Placement, ...] = ()

    def __init__(self, session: Any, keep_alive: object = None) -> None:
        self._session = session
        self._keep_alive = keep_alive
        self.inputs: tuple[str, ...] = tuple(i.name for i in session.get_inputs())
        self.outputs: tuple[str, ...] = tuple(o.name for o in session.get_outputs())
        self.providers: tuple[str, ...] = tuple(session.get_providers())
        provider = _PROVIDER_WORDS.get(self.providers[0], self.providers[0])
        self.device: str = f"ONNX Runtime {_import_onnxruntime().__version__} ({provider})"
        self._compute = _Computation(session, self.outputs, self.device, on_cpu=self.providers[0] == CPU[0])
        self._runs: list[_Run] = [self._compute.run]
        if self.providers[0] != CPU[0]:
            self._runs = [self._compute.bound(session.io_binding()) for _ in range(DEVICE_STREAMS)]
        self._streams: tuple[Stream, ...] = tuple(SynchronousStream(run) for run in self._runs)

    def input_shape(self, name: str) -> tuple[int | str | None, ...]:
        """The declared shape of input ``name``; dynamic dimensions are symbols or None."""
        return next(tuple(i.shape) for i in self._session.get_inputs() if i.name == name)

    def input_dtype(self, name: str) -> str:
        """The numpy name of the element type of input ``name``."""
        declared = next(i.type for i in self._session.get_inputs() if i.name == name)
        return _NUMPY_NAMES[declared]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """All outputs for ``feeds``. Raises DeviceError with ONNX Runtime's reason."""
        return self._runs[0](feeds)

    def streams(self) -> Sequence[Stream]:
        """One on the CPU, where each batch uses all cores; DEVICE_STREAMS elsewhere."""
        return self._streams

    def allocate(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Pageable memory; ONNX Runtime's Python API offers no page-locked memory."""
        import numpy as np

        return np.empty(shape, dtype)

    def close(self) -> None:
        """The session is freed with the last reference to it."""
        self._session = self._keep_alive = self._compute = None  # type: ignore[assignment]
        self._runs, self._streams = [], ()

    @classmethod
    def from_bytes(
        cls,
        model: bytes,
        providers: tuple[str, ...] = CPU,
        threads: int = 0,
        constants: Mapping[str, Tensor] | None = None,
        what: str = "the model",
        as_written: bool = False,
    ) -> OnnxRuntimeSession:
        """A session on a serialized ModelProto; its external data are ``constants``, used in place. ``as_written``: node by node,
        which spares optimizing what is run once."""
        ort = _import_onnxruntime()
        options, constants = _options(ort, threads, providers), constants or {}
        if as_written:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        values = [_ortvalue(ort, tensor.numpy(), int(tensor.dtype)) for tensor in constants.values()]
        if values:
            options.add_external_initializers(list(constants), values)
        return cls(_open(ort, model, options, providers, what), keep_alive=(constants, values))

    @classmethod
    def from_graph(
        cls, graph: EncodedGraph, providers: tuple[str, ...] = CPU, threads: int = 0, as_written: bool = False
    ) -> OnnxRuntimeSession:
        """A session on an encoded graph; its constants are used in place; float16 is quantized in float32."""
        message = quantize_in_float32(graph.message)
        return cls.from_bytes(message, providers, threads, graph.constants, "the prepared graph", as_written)


class _Computation:
    """Runs ONNX Runtime's session. It knows nothing of the OnnxRuntimeSession that has it: so that is freed, gigabytes at times,
    with the last reference to it rather than when Python next looks for cycles."""

    def __init__(self, session: Any, outputs: tuple[str, ...], device: str, on_cpu: bool) -> None:
        self._session, self._outputs, self._device, self._on_cpu = session, outputs, device, on_cpu

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return self._answer(lambda: self._session.run(list(self._outputs), dict(feeds)))

    def bound(self, binding: Any) -> _Run:
        """Run with I/O binding: outputs stay on the device until all are available, and are copied once."""

        def compute(feeds: Mapping[str, NDArray[Any]]) -> Any:
            for name, array in feeds.items():
                binding.bind_cpu_input(name, array)
            for name in self._outputs:
                binding.bind_output(name, "cuda")
            self._session.run_with_iobinding(binding)
            return binding.copy_outputs_to_cpu()

        return lambda feeds: self._answer(lambda: compute(feeds))

    def _answer(self, compute: Callable[[], Sequence[NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        try:
            arrays = compute()
        except Exception as error:  # ONNX Runtime's exception classes share no base below Exception
            if self._on_cpu and "alloc" not in str(error):  # the CPU can compute every valid graph
                raise ModelError(
                    f"{self._device} cannot compute the graph: {str(error).strip().splitlines()[0]}; export the model again"
                ) from error
            raise DeviceError(f"{self._device} failed to run a batch: {str(error).strip().splitlines()[0]}") from error
        return dict(zip(self._outputs, arrays, strict=True))


def _import_onnxruntime() -> Any:
    switch_off()
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingSoftwareError(f"ONNX Runtime cannot be imported ({error}); pip install onnxruntime") from error
    return onnxruntime


def _options(ort: Any, threads: int, providers: tuple[str, ...] = CPU) -> Any:
    """A session on the CPU keeps no memory between runs: the arena takes a third more, and no less time (measured: ResNet-50 with
    batches of 1 and 8, RetinaNet)."""
    options = ort.SessionOptions()
    options.enable_cpu_mem_arena = options.enable_mem_pattern = providers != CPU
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or _threads_allowed()
    options.add_session_config_entry(*_AS_WRITTEN)
    return options


def _threads_allowed() -> int:
    """0, which stands for ONNX Runtime's choice, or as many as this process has cores: ONNX Runtime starts a thread for each core
    of the machine, also where taskset or a container's cpuset leaves few."""
    cores = len(os.sched_getaffinity(0))
    return cores if cores < (os.cpu_count() or 1) else 0


def _ortvalue(ort: Any, array: NDArray[Any], dtype: int) -> Any:
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, dtype)


def _open(ort: Any, model: bytes, options: Any, providers: tuple[str, ...], what: str) -> Any:
    try:
        return ort.InferenceSession(model, options, providers=list(providers))
    except Exception as error:  # ONNX Runtime's exception classes share no base below Exception
        raise ModelError(f"ONNX Runtime cannot load {what}: {str(error).strip().splitlines()[0]}") from error
