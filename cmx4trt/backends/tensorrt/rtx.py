"""TensorRT-RTX: engines built ahead of time, on machines without a GPU, for RTX-class GPUs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cmx4trt.backends import how_to_build_for
from cmx4trt.backends.base import BuiltEngine
from cmx4trt.backends.installed import installed_version
from cmx4trt.backends.options import BuildOptions
from cmx4trt.backends.tensorrt import COMPUTE_CAPABILITIES
from cmx4trt.base.install import pip_line
from cmx4trt.base.progress import Progress
from cmx4trt.errors import DeviceError, MissingSoftwareError

if TYPE_CHECKING:
    from cmx4trt.backends.tensorrt.library import Library
    from cmx4trt.devices.driver import Gpu
    from cmx4trt.graph.network import PreparedGraph

DISTRIBUTIONS = ("tensorrt_rtx_cu13", "tensorrt_rtx_cu12", "tensorrt_rtx")
"""PyPI distributions with the module, normalized as in the names of their metadata folders."""
_SHARED_OBJECTS = "tensorrt_rtx_libs"
"""The package, required by the module's, that holds nothing but the library itself."""


class TensorRTRTXBuilder:
    """Builds with ``tensorrt_rtx``; needs no GPU and no driver."""

    name = "tensorrt-rtx"

    def version(self) -> str:
        """The installed version, read from package metadata. Raises MissingSoftwareError."""
        version = installed_version(DISTRIBUTIONS)
        if version is None:
            raise MissingSoftwareError(_missing())
        return version

    def resolve(self, request: BuildOptions) -> Mapping[str, Any]:
        """No options of its own. On the device cuda, rejects a GPU that TensorRT-RTX does not support (DeviceError)."""
        if _needs_gpu(request):
            from cmx4trt.devices.driver import check_workspace, open_device

            check_gpu(open_device().gpu)
            check_workspace(request.workspace_size, open_device())
        return {}

    def identity(self, request: BuildOptions) -> Mapping[str, str]:
        """Library and version; only an engine for the local GPU ('current') depends on the machine."""
        identity = {"name": self.name, "version": self.version()}
        if request.target == "current":
            from cmx4trt.devices.driver import local_gpu

            identity.update(local_gpu().identity())
        return identity

    def build(
        self, graph: PreparedGraph, request: BuildOptions, progress: Progress, stopped: Callable[[], bool]
    ) -> BuiltEngine:
        """The engine of ``graph`` for the request's compute capabilities. Raises BuildError with the library's reason."""
        from cmx4trt.backends.tensorrt.serialize import serialize_engine

        trt = import_tensorrt_rtx()
        engine, facts, log = serialize_engine(
            trt, graph, request, progress, lambda config: _set_targets(trt, config, request.target), stopped
        )
        return BuiltEngine(engine, {"tensorrt_version": trt.__version__, **facts}, log)


def import_tensorrt_rtx() -> Library:
    """The module. Raises MissingSoftwareError."""
    try:
        import tensorrt_rtx
    except ImportError as error:
        raise MissingSoftwareError(f"{_missing()}; the import failed: {error}") from error
    module: Library = tensorrt_rtx
    return module


def load_tensorrt_rtx() -> None:
    """Load the library, most of it without Python's lock, and then the module."""
    from cmx4trt.backends.tensorrt.preload import load_shared_objects

    load_shared_objects(_SHARED_OBJECTS)
    with suppress(MissingSoftwareError):
        import_tensorrt_rtx()


def check_gpu(gpu: Gpu) -> None:
    """Reject a GPU that TensorRT-RTX does not support: building works there, but loading the engine fails. Raises DeviceError."""
    if gpu.sm not in COMPUTE_CAPABILITIES:
        raise DeviceError(
            f"TensorRT-RTX does not run on compute capability {gpu.compute_capability} ({gpu.name}), only on "
            f"{', '.join(COMPUTE_CAPABILITIES)}",
            advice=f"{how_to_build_for(gpu.sm, but='tensorrt-rtx')}; _cpu builds for other GPUs",
        )


def _needs_gpu(request: BuildOptions) -> bool:
    return request.device == "cuda" or request.target == "current"


def _set_targets(trt: Any, config: Any, target: str) -> None:
    """Set the compute capabilities to compile for; 'portable' sets none and gets the library's default set."""
    if target == "portable":
        return
    names = target.split("+")
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        config.set_compute_capability(getattr(trt.ComputeCapability, name.upper()), index)


def _missing() -> str:
    return f"TensorRT-RTX is not installed in this Python; {pip_line('rtx')} (or tensorrt-rtx-cu13)"
