"""Our own engines for Hopper GPUs (compute capability 9.0): ResNet-50 in INT8, built without a GPU, bit-exact.

Stages of a build: ``lowering`` (graph -> network), ``schedule`` (network -> plan), ``compiler`` (kernels -> cubins),
``container`` (the file); on the GPU: ``session``; ``reference`` is the specification. Imports only the standard library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cmx4trt.backends.base import Backend, GraphBuilder
from cmx4trt.backends.facts import Check, Measurement, Section, Tuning
from cmx4trt.backends.hopper.options import HopperOptions
from cmx4trt.backends.options import BuildOptions
from cmx4trt.backends.targets import Targets

if TYPE_CHECKING:
    from cmx4trt.backends.flavor import QuantizationFlavor
    from cmx4trt.backends.hopper.compiler import Compiler
    from cmx4trt.base.progress import Progress
    from cmx4trt.devices.base import ComputeDevice
    from cmx4trt.graph.network import PreparedGraph
    from cmx4trt.sessions.base import Session

OpenDevice = Callable[[int], "ComputeDevice"]
"""Opens the GPU with an index. Raises DeviceError, MissingSoftwareError."""
NewCompiler = Callable[[], "Compiler"]
"""A compiler of the kernels. Raises MissingSoftwareError."""


def _open_device(index: int) -> ComputeDevice:
    from cmx4trt.devices.cuda import open_cuda

    return open_cuda(index)


def _new_compiler() -> Compiler:
    from cmx4trt.backends.hopper.compiler import Compiler

    return Compiler()


class Hopper(Backend):
    """Engines for H100 and H200, built with or without one."""

    name = "hopper"
    title = "cmx4trt for Hopper"
    about = "Our own engines for H100 and H200: ResNet-50 INT8, built ahead of time, bit-exact"
    devices: Mapping[str, str] = {
        "cpu": "built ahead of time",
        "cuda": "built ahead of time, then run on the local GPU and verified bit for bit against its specification",
    }
    targets = Targets(
        names={"hopper": ("sm90",)},
        default="sm90",
        default_note="H100 and H200",
        capabilities=("sm90",),
        meanings={"sm90": "GPUs of compute capability 9.0: H100, H200"},
    )
    serves = ("sm90",)
    precisions = ("int8",)
    default_precision = "int8"
    networks = ("resnet50",)
    own_options = HopperOptions
    request_parts = ("choices",)

    def __init__(self, open_device: OpenDevice = _open_device, new_compiler: NewCompiler = _new_compiler) -> None:
        self._open_device = open_device
        self._new_compiler = new_compiler

    def builder(self) -> GraphBuilder:
        """A builder that loads the compiler when it builds."""
        from cmx4trt.backends.hopper.builder import HopperBuilder

        return HopperBuilder(self._open_device, self._new_compiler)

    def open_session(self, engine: Any, cuda_graphs: bool = False, gpu: int = 0) -> Session:
        """A session on a local GPU, which must have compute capability 9.0. It always runs CUDA graphs."""
        from cmx4trt.backends.hopper.container import read_engine
        from cmx4trt.backends.hopper.session import HopperSession

        return HopperSession(read_engine(engine, "the engine"), self._open_device(gpu))

    def count_gpus(self) -> int:
        """The number of GPUs that the driver reports."""
        return self._open_device(0).facts.visible

    def check_request(self, request: BuildOptions) -> None:
        """Only INT8 kernels exist. Raises UnsupportedError."""
        from cmx4trt.backends.hopper.requests import check_request

        check_request(request)

    def flavor(self) -> QuantizationFlavor:
        """uint8 after Relu; see ``lowering``."""
        from cmx4trt.backends.hopper.lowering import FLAVOR

        return FLAVOR

    def check_engine(self, engine: Any, graph: PreparedGraph, session: Session | None) -> Sequence[Check]:
        """On a device, equality with the specification, activation by activation; otherwise that the file computes every
        operation."""
        from cmx4trt.backends.hopper.checks import check_engine

        return check_engine(engine, graph, session)

    def measure(self, session: Session) -> Measurement | None:
        """Times of the network as one CUDA graph and of every single launch, at the engine's largest batch."""
        from cmx4trt.backends.hopper.measure import measure

        return measure(session)

    def tune(self, graph: Callable[[], PreparedGraph], request: BuildOptions, progress: Progress) -> Tuning:
        """Times of every kernel that can compute an operation, at a few batch sizes up to the engine's."""
        from cmx4trt.backends.hopper.tune import tune_graph

        return tune_graph(graph, request, progress, self._open_device(0), self._new_compiler)

    def sections(self, built: Mapping[str, Any], executed: Mapping[str, Any]) -> Sequence[Section]:
        """The launches, their bounds, and the measurements."""
        from cmx4trt.backends.hopper.sections import sections

        return sections(built, executed)


BACKENDS: tuple[Backend, ...] = (Hopper(),)
