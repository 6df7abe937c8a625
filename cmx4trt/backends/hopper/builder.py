"""Builds an engine: lowers the graph, schedules it, compiles its kernels, packs its weights."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cmx4trt import __version__
from cmx4trt.backends.base import BuiltEngine
from cmx4trt.backends.hopper.options import HopperOptions
from cmx4trt.backends.hopper.requests import check_request
from cmx4trt.backends.installed import installed_version
from cmx4trt.base.install import pip_line
from cmx4trt.errors import MissingSoftwareError

if TYPE_CHECKING:
    from cmx4trt.backends.hopper.choices import Choices
    from cmx4trt.backends.hopper.compiler import Compiler
    from cmx4trt.backends.hopper.engine import Engine
    from cmx4trt.backends.options import BuildOptions
    from cmx4trt.base.progress import Progress
    from cmx4trt.devices.base import ComputeDevice
    from cmx4trt.graph.network import PreparedGraph

NVRTC = ("nvidia_cuda_nvrtc_cu12", "nvidia_cuda_nvrtc")
"""Distributions with the compiler, normalized as in the names of their metadata folders."""


class HopperBuilder:
    """Needs NVRTC; no GPU, no driver and no CUDA toolkit."""

    name = "hopper"

    def __init__(self, open_device: Callable[[int], ComputeDevice], new_compiler: Callable[[], Compiler]) -> None:
        self._open_device = open_device
        self._new_compiler = new_compiler
        self._read_choices: Choices | None = None

    def version(self) -> str:
        """This package's version, because the kernels are its own. Raises MissingSoftwareError if their compiler is missing."""
        if installed_version(NVRTC) is None:
            raise MissingSoftwareError(
                f"NVRTC, the compiler of the kernels, is not installed in this Python; {pip_line('hopper')}"
            )
        return __version__

    def resolve(self, request: BuildOptions) -> Mapping[str, Any]:
        """No options of its own. Rejects a damaged table of choices (DataError), and on the device cuda a GPU that the kernels
        do not support (DeviceError)."""
        check_request(request)
        self._choices(request)
        if request.device == "cuda":
            from cmx4trt.backends.hopper.engine import check_capability

            check_capability(self._open_device(0).facts)
        return {}

    def identity(self, request: BuildOptions) -> Mapping[str, str]:
        """Version, compiler, the content of the kernels, and of the table from which they are chosen if it is not the default
        one, which ``sources`` covers."""
        from cmx4trt.backends.hopper.choices import shipped_choices

        chosen = self._choices(request)
        own = {} if chosen == shipped_choices() else {"choices": chosen.digest}
        return {
            "name": self.name,
            "version": self.version(),
            "compiler": f"NVRTC {installed_version(NVRTC)}",
            "sources": _digest_of_sources(),
            **own,
        }

    def build(
        self, graph: PreparedGraph, request: BuildOptions, progress: Progress, stopped: Callable[[], bool]
    ) -> BuiltEngine:
        """The engine file of ``graph``, and a description of its launches. Raises UnsupportedError, BuildError."""
        from cmx4trt.backends.hopper.container import write_engine

        engine, facts = make_engine(graph, request, self._choices(request), self._new_compiler(), stopped)
        return BuiltEngine(write_engine(engine), facts)

    def _choices(self, request: BuildOptions) -> Choices:
        """The table from which kernels are chosen, read once, so that it is the one in the fingerprint. Raises DataError,
        DeviceError."""
        from cmx4trt.backends.hopper.choices import choices_of

        if self._read_choices is None:
            chosen = HopperOptions.of(request).kernel_choices
            local = request.device == "cuda" and chosen is None
            self._read_choices = choices_of(chosen, self._open_device(0).facts.name if local else "")
        return self._read_choices


def make_engine(
    graph: PreparedGraph,
    request: BuildOptions,
    choices: Choices,
    compiler: Compiler,
    stopped: Callable[[], bool] = lambda: False,
) -> tuple[Engine, dict[str, Any]]:
    """An engine in memory, and its description for the manifest."""
    from cmx4trt.backends.hopper.engine import Engine
    from cmx4trt.backends.hopper.lowering import lower
    from cmx4trt.backends.hopper.schedule import schedule, types_of
    from cmx4trt.backends.hopper.work import launch_records

    network = lower(graph.model)
    scheduled = schedule(network, request.batch_size, types_of(request.input_dtype, request.output_dtype), choices)
    compiled = compiler.compile_all(scheduled.plan.kernels, stopped)
    origin = {"compiler": compiler.version, "graph_sha256": graph.encoded.sha256(), "choices_gpu": choices.gpu}
    cubins = {name: one.cubin for name, one in compiled.items()}
    engine = Engine(scheduled.plan, cubins, scheduled.weights, request.copy_streams, origin)
    facts = {
        "choices_measured_on": choices.gpu,
        "least_driver": str(engine.least.driver),
        "kernels": len(compiled),
        "weights_bytes": len(scheduled.weights),
        "arena_bytes": scheduled.plan.arena_bytes,
        "launches": launch_records(network, scheduled.plan.program(request.batch_size)),
    }
    return engine, facts


def _digest_of_sources() -> str:
    """SHA-256 over everything in this package that determines an engine: kernels, packing, schedule, choices."""
    digest = hashlib.sha256()
    folder = os.path.dirname(__file__)
    for base, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(files):
            if name.endswith((".py", ".cu", ".cuh", ".json")):
                with open(os.path.join(base, name), "rb") as stream:
                    digest.update(f"{os.path.relpath(os.path.join(base, name), folder)}\n".encode() + stream.read())
    return digest.hexdigest()
