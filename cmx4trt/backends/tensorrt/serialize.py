"""Shared by TensorRT-RTX and TensorRT: from a prepared graph to a serialized engine through the ``nvinfer`` API.

Nothing here imports a vendor library: the builder passes its module in as ``trt``.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cmx4trt.backends.options import BuildOptions
from cmx4trt.base.progress import Progress
from cmx4trt.errors import BuildError
from cmx4trt.graph.network import PreparedGraph
from cmx4trt.graph.spec import ModelSpec
from cmx4trt.ir.onnx_file import encode_model

if TYPE_CHECKING:
    import tensorrt

    from cmx4trt.backends.tensorrt.library import Library

LOG_LINES_KEPT = 40
"""Maximum number of lines of the library's log in the manifest (the last ones)."""
REASON_LINES = 3
"""Number of library errors that our error quotes."""
_SCRATCH = re.compile(r"Max Scratch Memory: (\d+)|Total Activation Memory: (\d+)")


class BuildStoppedError(Exception):
    """The build was stopped (an interruption, not a failure)."""


def serialize_engine(
    trt: Library,
    graph: PreparedGraph,
    request: BuildOptions,
    progress: Progress,
    configure: Callable[[tensorrt.IBuilderConfig], None],
    stopped: Callable[[], bool],
) -> tuple[Any, dict[str, Any], tuple[str, ...]]:
    """The serialized engine (a buffer), facts for the manifest, and the warnings the library logged.

    ``configure`` applies library-specific settings to the builder configuration; ``stopped`` is called between build steps.
    Raises BuildError with the library's own reason, BuildStoppedError if ``stopped`` returned true.
    """
    logger = collecting_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt))
    # The parser refers to the constants' memory: it must live until the engine is built.
    parser = trt.OnnxParser(network, logger)
    _parse(parser, graph, logger)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace_size)
    config.progress_monitor = progress_monitor(trt, progress, stopped)
    _add_profiles(builder, config, graph.spec, graph, request)
    configure(config)
    layers = network.num_layers
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        if stopped():
            raise BuildStoppedError
        raise BuildError(f"the library did not build {graph.spec.title}: {logger.reason()}")
    facts: dict[str, Any] = {"network_layers": layers, "optimization_profiles": request.copy_streams}
    facts.update(_memory_facts(logger.lines))
    return engine, facts, tuple(logger.warnings[-LOG_LINES_KEPT:])


def _network_flags(trt: Library) -> int:
    """Strongly typed: the only kind of network in TensorRT 11 and TensorRT-RTX, a flag in TensorRT 10."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _parse(parser: tensorrt.OnnxParser, graph: PreparedGraph, logger: Any) -> None:
    """Pass the graph to the parser, and the large constants by address: no copy, no second serialization."""
    encoded = graph.encoded
    if hasattr(parser, "load_model_proto"):
        parsed = (
            parser.load_model_proto(encoded.message)
            and all(
                parser.load_initializer(name, _address(tensor.data), len(tensor.data))
                for name, tensor in encoded.constants.items()
            )
            and parser.parse_model_proto()
        )
    else:  # TensorRT before 10.13 needs everything in one message
        parsed = parser.parse(encode_model(graph.model, inline_bytes=None).message)
    if not parsed:
        errors = [parser.get_error(i).desc() for i in range(parser.num_errors)]
        raise BuildError(
            f"the library cannot read the graph of {graph.spec.title}: {_quote(errors) or logger.reason()}"
        )


def _address(data: Any) -> int:
    """The address of a buffer, writable or not."""
    view = memoryview(data)
    if view.readonly:
        import numpy as np

        return int(np.frombuffer(view, dtype=np.uint8).ctypes.data)
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


def _add_profiles(
    builder: tensorrt.Builder,
    config: tensorrt.IBuilderConfig,
    spec: ModelSpec,
    graph: PreparedGraph,
    request: BuildOptions,
) -> None:
    """One profile per copy stream; batch 1 up to the request's, tuned for the largest."""
    for _ in range(request.copy_streams):
        profile = builder.create_optimization_profile()
        for info in graph.inputs:
            largest = (request.batch_size, *spec.input_shape)
            profile.set_shape(info.name, (1, *spec.input_shape), largest, largest)
        config.add_optimization_profile(profile)


def _memory_facts(lines: list[str]) -> Mapping[str, int]:
    """The scratch memory the library reported, in bytes, for the largest batch of all profiles."""
    scratch = [int(match[1]) for line in lines if (match := _SCRATCH.search(line)) and match[1]]
    activation = [int(match[2]) for line in lines if (match := _SCRATCH.search(line)) and match[2]]
    facts = {}
    if scratch:
        facts["max_scratch_memory_bytes"] = max(scratch)
    if activation:
        facts["total_activation_memory_bytes"] = max(activation)
    return facts


def _quote(lines: list[str]) -> str:
    """The first few distinct error lines of the library, joined."""
    distinct = list(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip()))
    return "; ".join(distinct[:REASON_LINES])


def collecting_logger(trt: Library) -> Any:
    """A logger that records the library's messages: ``lines`` (information), ``warnings``, ``errors``; ``reason()`` quotes
    them."""

    base: Any = trt.ILogger
    verbose = trt.ILogger.VERBOSE

    class CollectingLogger(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)
            self.lines: list[str] = []
            self.warnings: list[str] = []
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity == verbose:  # nearly all: thousands in a build
                return
            if severity == trt.ILogger.INFO:
                self.lines.append(message)
            elif severity == trt.ILogger.WARNING:
                self.warnings.append(message)
            elif severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)

        def reason(self) -> str:
            return _quote(self.errors) or _quote(self.warnings[-REASON_LINES:]) or "it gave no reason"

    return CollectingLogger()


def progress_monitor(trt: Library, progress: Progress, stopped: Callable[[], bool]) -> Any:
    """The library's build phases as steps of our progress; tells the library to stop if ``stopped`` returns true."""

    base: Any = trt.IProgressMonitor

    class Monitor(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)
            self._totals: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._totals[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress.step(phase_name, step + 1, self._totals.get(phase_name, step + 1))
            return not stopped()

        def phase_finish(self, phase_name: str) -> None:
            self._totals.pop(phase_name, None)

    return Monitor()
