"""A stand-in for TensorRT's module: records calls, fails on demand, and runs its 'engines' in ONNX Runtime.

Names, parameters and meanings follow tensorrt-stubs 10.13; a test compares the signatures. An engine is the ONNX graph that
the parser was given, with the constants it was given by address, so that wrong addresses give wrong numbers.
"""

from __future__ import annotations

import ctypes
import json
import types
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numpy as np
import onnx

__version__ = "10.13.3.9"
calls: list[tuple[Any, ...]] = []
"""(name, arguments …) of what matters, in order."""
MAGIC = b"fake engine\n"


class Behaviour(types.SimpleNamespace):
    """What tests may change before a build or an execution."""

    def __init__(self) -> None:
        super().__init__(
            parse_errors=[], build_log=[], build_fails=False, progress_steps=2, deserialize_error=None,
            timing_cache_valid=True, execute_fails=False, profile_refused=False, layers=None, execute=None, output_scale=1,
        )  # fmt: skip


behaviour = Behaviour()


class _Enum(IntEnum):
    pass


class MemoryPoolType(_Enum):
    WORKSPACE = 0


class NetworkDefinitionCreationFlag(_Enum):
    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


class ProfilingVerbosity(_Enum):
    LAYER_NAMES_ONLY = 0
    NONE = 1
    DETAILED = 2


class HardwareCompatibilityLevel(_Enum):
    NONE = 0
    AMPERE_PLUS = 1
    SAME_COMPUTE_CAPABILITY = 2


class TilingOptimizationLevel(_Enum):
    NONE = 0
    FAST = 1
    MODERATE = 2
    FULL = 3


class LayerInformationFormat(_Enum):
    ONELINE = 0
    JSON = 1


class TensorIOMode(_Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class DataType(_Enum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    INT64 = 8


_NUMPY = {
    DataType.FLOAT: np.float32,
    DataType.HALF: np.float16,
    DataType.INT8: np.int8,
    DataType.INT32: np.int32,
    DataType.INT64: np.int64,
}
_FROM_ONNX = {1: DataType.FLOAT, 10: DataType.HALF, 3: DataType.INT8, 6: DataType.INT32, 7: DataType.INT64}


def nptype(trt_type: DataType) -> type:
    return _NUMPY[trt_type]


class ILogger:
    class Severity(_Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    INTERNAL_ERROR = Severity.INTERNAL_ERROR
    ERROR = Severity.ERROR
    WARNING = Severity.WARNING
    INFO = Severity.INFO
    VERBOSE = Severity.VERBOSE

    def __init__(self) -> None:
        pass

    def log(self, severity: Severity, msg: str) -> None:
        raise NotImplementedError


class IProgressMonitor:
    def __init__(self) -> None:
        pass

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        raise NotImplementedError

    def step_complete(self, phase_name: str, step: int) -> bool:
        raise NotImplementedError

    def phase_finish(self, phase_name: str) -> None:
        raise NotImplementedError


class IHostMemory(bytes):
    """Supports the buffer protocol, as the real one does."""


class INetworkDefinition:
    def __init__(self) -> None:
        self.model = onnx.ModelProto()

    @property
    def num_layers(self) -> int:
        return len(self.model.graph.node)


class ParserError:
    def __init__(self, text: str) -> None:
        self._text = text

    def desc(self) -> str:
        return self._text


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network = network
        self._data: dict[str, bytes] = {}

    @property
    def num_errors(self) -> int:
        return len(behaviour.parse_errors)

    def get_error(self, index: int) -> ParserError:
        return ParserError(behaviour.parse_errors[index])

    def load_model_proto(self, model: Any, path: str | None = None) -> bool:
        calls.append(("load_model_proto",))
        self._network.model.ParseFromString(bytes(model))
        return True

    def load_initializer(self, name: str, data: int, size: int) -> bool:
        self._data[name] = ctypes.string_at(data, size)
        return True

    def parse_model_proto(self) -> bool:
        calls.append(("parse_model_proto",))
        for tensor in self._network.model.graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                tensor.raw_data = self._data[tensor.name]
                del tensor.external_data[:]
                tensor.data_location = onnx.TensorProto.DEFAULT
        return not behaviour.parse_errors

    def parse(self, model: Any, path: str | None = None) -> bool:
        calls.append(("parse",))
        self._network.model.ParseFromString(bytes(model))
        return not behaviour.parse_errors


class IOptimizationProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[tuple[int, ...]]] = {}

    def set_shape(self, input: str, min: tuple[int, ...], opt: tuple[int, ...], max: tuple[int, ...]) -> None:
        self.shapes[input] = [tuple(min), tuple(opt), tuple(max)]


class ITimingCache:
    def __init__(self, data: bytes) -> None:
        self.entries = set(json.loads(data or b"[]"))

    def combine(self, input_cache: ITimingCache, ignore_mismatch: bool) -> bool:
        self.entries |= input_cache.entries
        return True

    def serialize(self) -> IHostMemory:
        return IHostMemory(json.dumps(sorted(self.entries)).encode())


class IBuilderConfig:
    def __init__(self) -> None:
        self.profiles: list[IOptimizationProfile] = []
        self.progress_monitor: IProgressMonitor | None = None
        self.profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
        self.hardware_compatibility_level = HardwareCompatibilityLevel.NONE
        self.tiling_optimization_level = TilingOptimizationLevel.NONE
        self.builder_optimization_level = 3
        self.max_aux_streams = -1
        self._cache: ITimingCache | None = None

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        calls.append(("set_memory_pool_limit", pool, pool_size))

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: Any) -> ITimingCache | None:
        calls.append(("create_timing_cache", len(serialized_timing_cache)))
        try:
            return ITimingCache(bytes(serialized_timing_cache))
        except ValueError:
            return None

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if cache.entries and not behaviour.timing_cache_valid:
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._cache


class Builder:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        calls.append(("create_network", flags))
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None:
        calls.append(("build_serialized_network", config))
        monitor = config.progress_monitor
        if monitor is not None:
            monitor.phase_start("Building", None, behaviour.progress_steps)
            for step in range(behaviour.progress_steps):
                if not monitor.step_complete("Building", step):
                    return None
            monitor.phase_finish("Building")
        for severity, text in behaviour.build_log:
            self._logger.log(severity, text)
        if behaviour.build_fails:
            return None
        if (cache := config.get_timing_cache()) is not None:
            cache.entries.add(f"tactics of {network.num_layers} layers")
        profiles = json.dumps([p.shapes for p in config.profiles]).encode()
        return IHostMemory(MAGIC + profiles + b"\n" + network.model.SerializeToString())


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: Any) -> ICudaEngine | None:
        error = behaviour.deserialize_error
        if error is None and not bytes(serialized_engine).startswith(MAGIC):
            error = "The engine plan file is not valid"
        if error is not None:
            self._logger.log(ILogger.ERROR, error)
            return None
        return ICudaEngine(bytes(serialized_engine))


class EngineInspector:
    def get_engine_information(self, format: LayerInformationFormat) -> str:
        assert format == LayerInformationFormat.JSON
        return json.dumps({"Layers": behaviour.layers or []})


class ICudaEngine:
    def __init__(self, data: bytes) -> None:
        profiles, self.model = data[len(MAGIC) :].split(b"\n", 1)
        self._profiles: list[dict[str, list[list[int]]]] = json.loads(profiles)
        graph = onnx.load_from_string(self.model).graph
        self._inputs = [i.name for i in graph.input]
        self._infos = {v.name: v.type.tensor_type for v in (*graph.input, *graph.output)}
        self.device_memory_size_v2 = 123456
        self.num_aux_streams = 0

    @property
    def num_io_tensors(self) -> int:
        return len(self._infos)

    @property
    def num_optimization_profiles(self) -> int:
        return len(self._profiles)

    def get_tensor_name(self, index: int) -> str:
        return list(self._infos)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return _FROM_ONNX[self._infos[name].elem_type]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(d.dim_value if d.HasField("dim_value") else -1 for d in self._infos[name].shape.dim)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return [tuple(shape) for shape in self._profiles[profile_index][name]]

    def create_execution_context(self) -> IExecutionContext:
        return IExecutionContext(self)

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector()


def _run_in_onnxruntime(engine: ICudaEngine, tensors: dict[str, tuple[int, tuple[int, ...]]]) -> None:
    import onnxruntime

    def view(name: str) -> np.ndarray[Any, Any]:
        address, shape = tensors[name]
        dtype = np.dtype(nptype(engine.get_tensor_dtype(name)))
        raw = (ctypes.c_char * (int(np.prod(shape)) * dtype.itemsize)).from_address(address)
        return np.frombuffer(raw, dtype).reshape(shape)

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry(
        "session.disable_quant_qdq", "1"
    )  # integer kernels round biases, TensorRT does not
    session = onnxruntime.InferenceSession(engine.model, options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    results = session.run(names, {i.name: view(i.name) for i in session.get_inputs()})
    for name, result in zip(names, results, strict=True):
        view(name)[...] = result * behaviour.output_scale


class IExecutionContext:
    """Remembers, per enqueued execution, addresses and shapes as they are at that moment."""

    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._addresses: dict[str, int] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        calls.append(("set_optimization_profile_async", profile_index, stream_handle))
        return not behaviour.profile_refused

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        calls.append(("set_input_shape", name, tuple(shape)))
        self._shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        batch = next(iter(self._shapes.values()))[0]
        return tuple(batch if size == -1 else size for size in self._engine.get_tensor_shape(name))

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        calls.append(("execute_async_v3", stream_handle))
        if behaviour.execute_fails:
            return False
        tensors = {name: (address, self.get_tensor_shape(name)) for name, address in self._addresses.items()}
        execute: Callable[..., None] | None = behaviour.execute
        if execute is not None:
            execute(tensors, stream_handle)
            return True
        from pycuda import driver

        driver.STREAMS[stream_handle].enqueue(lambda: _run_in_onnxruntime(self._engine, tensors))
        return True
