"""Native TensorRT 10 and 11: engines built on any local NVIDIA GPU, for it or for its family.

DLA, the inference accelerator of NVIDIA's embedded modules, is not supported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cmx4trt.backends.base import BuiltEngine
from cmx4trt.backends.installed import installed_version
from cmx4trt.backends.options import BuildOptions
from cmx4trt.backends.tensorrt.options import TensorRTOptions
from cmx4trt.backends.tensorrt.timing_cache import TimingCache
from cmx4trt.base.files import name_for_files
from cmx4trt.base.progress import Progress
from cmx4trt.errors import DeviceError, MissingSoftwareError, UnsupportedError

if TYPE_CHECKING:
    import tensorrt

    from cmx4trt.backends.tensorrt.library import Library
    from cmx4trt.devices.driver import Gpu
    from cmx4trt.graph.network import PreparedGraph

DISTRIBUTIONS = (
    "tensorrt",
    *(f"tensorrt_cu{cuda}{part}" for cuda in (13, 12, 11) for part in ("", "_bindings")),
)
"""Distributions with the module, from PyPI, NVIDIA's tar files or Debian packages, normalized as in their metadata."""
OLDEST_MAJOR = 10
"""First release in which whole networks can be strongly typed."""
AMPERE = (8, 0)
"""Compute capability of the first Ampere GPU: 'ampere_plus' engines can only be built on this one and later ones (NvInfer.h,
HardwareCompatibilityLevel)."""
_MISSING = (
    "TensorRT is not installed in this Python; pip install tensorrt-cu13, or install it from NVIDIA's tar file "
    '(cmr "get tensorrt" --tar_file=FILE)'
)


class TensorRTBuilder:
    """Builds with ``tensorrt`` on the local GPU."""

    name = "tensorrt"

    def version(self) -> str:
        """The installed version: from package metadata, otherwise from the module itself. Raises MissingSoftwareError."""
        return installed_version(DISTRIBUTIONS) or str(import_tensorrt().__version__)

    def resolve(self, request: BuildOptions) -> Mapping[str, Any]:
        """No options of its own. Raises MissingSoftwareError, DeviceError if library, GPU or its memory are insufficient."""
        from cmx4trt.devices.driver import check_workspace, open_device

        _check_version(self.version())
        device = open_device()
        if request.target == "ampere_plus" and _numbers(device.gpu.compute_capability) < AMPERE:
            raise DeviceError(
                f"target ampere_plus needs compute capability 8.0 or later to build on, {device.gpu.name} has "
                f"{device.gpu.compute_capability}; use --target=current"
            )
        check_workspace(request.workspace_size, device)
        return {}

    def identity(self, request: BuildOptions) -> Mapping[str, str]:
        """Library and version, and the properties of the GPU to which the target binds the engine."""
        from cmx4trt.devices.driver import local_gpu

        identity = {"name": self.name, "version": self.version()}
        if request.target == "current":
            identity.update(local_gpu().identity())
        elif request.target == "same_compute_capability":
            identity["compute_capability"] = local_gpu().compute_capability
        return identity

    def build(
        self, graph: PreparedGraph, request: BuildOptions, progress: Progress, stopped: Callable[[], bool]
    ) -> BuiltEngine:
        """The engine of ``graph``, with what the library reports about its layers. Raises BuildError with the library's
        reason."""
        from cmx4trt.backends.tensorrt.inspection import inspect_engine
        from cmx4trt.backends.tensorrt.serialize import serialize_engine
        from cmx4trt.devices.driver import local_gpu

        trt, gpu = import_tensorrt(), local_gpu()
        settings = settings_of(trt, request)
        given = TensorRTOptions.of(request).timing_cache
        cache = TimingCache(given or timing_cache_path(request.output_dir, trt.__version__, gpu))

        def configure(config: tensorrt.IBuilderConfig) -> None:
            settings.apply(config)
            cache.attach(config, progress)

        engine, facts, log = serialize_engine(trt, graph, request, progress, configure, stopped)
        cache.save(progress, request.wait)
        facts.update(inspect_engine(trt, engine), timing_cache=cache.to_dict(), gpu=gpu.to_dict())
        return BuiltEngine(engine, {"tensorrt_version": trt.__version__, **facts}, log)


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings that only TensorRT's builder configuration has; None keeps the library's default."""

    profiling_verbosity: Any
    hardware_compatibility_level: Any
    tiling_optimization_level: Any
    builder_optimization_level: int | None
    max_aux_streams: int | None

    def apply(self, config: tensorrt.IBuilderConfig) -> None:
        """Apply the requested settings."""
        config.profiling_verbosity = self.profiling_verbosity
        if self.hardware_compatibility_level is not None:
            config.hardware_compatibility_level = self.hardware_compatibility_level
        if self.tiling_optimization_level is not None:
            config.tiling_optimization_level = self.tiling_optimization_level
        if self.builder_optimization_level is not None:
            config.builder_optimization_level = self.builder_optimization_level
        if self.max_aux_streams is not None:
            config.max_aux_streams = self.max_aux_streams


def settings_of(trt: Library, request: BuildOptions) -> Settings:
    """The request's options as library settings. Raises UnsupportedError for one this TensorRT does not have."""
    target = request.target
    own = TensorRTOptions.of(request)
    tiling = own.tiling_optimization_level
    return Settings(
        # Without DETAILED the engine keeps only the layers' names, and the manifest could not contain their precision.
        profiling_verbosity=trt.ProfilingVerbosity.DETAILED,
        hardware_compatibility_level=(
            None if target == "current" else _member(trt, "HardwareCompatibilityLevel", target, "target")
        ),
        tiling_optimization_level=(
            None if tiling is None else _member(trt, "TilingOptimizationLevel", tiling, "tiling_optimization_level")
        ),
        builder_optimization_level=own.builder_optimization_level,
        max_aux_streams=own.max_aux_streams,
    )


def _member(trt: Library, enumeration: str, value: str, option: str) -> Any:
    member = getattr(getattr(trt, enumeration, None), value.upper(), None)
    if member is None:
        raise UnsupportedError(
            f"TensorRT {trt.__version__} does not have {option} {value}; omit it or install a newer TensorRT"
        )
    return member


def timing_cache_path(folder: str, version: str, gpu: Gpu) -> str:
    """Where timings are stored beside the engines: they are valid for one library version on one kind of GPU."""
    return os.path.join(folder, f"tensorrt-{version}-{name_for_files(gpu.name)}-{gpu.sm}.timing-cache")


def import_tensorrt() -> Library:
    """The module. Raises MissingSoftwareError if it is missing, only type stubs, or too old."""
    try:
        import tensorrt
    except (ImportError, OSError) as error:  # OSError: the libraries behind the bindings are missing
        raise MissingSoftwareError(f"{_MISSING}; the import failed: {error}") from error
    version = getattr(tensorrt, "__version__", None)
    if version is None:
        raise MissingSoftwareError(f"{_MISSING}; the folder found does not contain the library")
    _check_version(version)
    module: Library = tensorrt
    return module


def _check_version(version: str) -> None:
    if _numbers(version) < (OLDEST_MAJOR,):
        raise MissingSoftwareError(
            f"TensorRT {version} is installed, expected {OLDEST_MAJOR} or later; install a newer one"
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
