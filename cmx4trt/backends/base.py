"""The interface of backends: everything that builds and runs engines.

A ``Backend`` is what ``--builder`` names: facts as data, cheap to import, and the two entry points to its code, ``builder``
and ``open_session``. Everything else (command line, CM, web UI, validation, sessions, verification, reports) asks the registry
in ``cmx4trt.backends``. docs/how-to/backend.md shows how to add one. Imports only the standard library.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from cmx4trt.backends.facts import PRECISIONS, Check, CmNeeds, Measurement, Section, Tuning
from cmx4trt.backends.options import BuildOptions
from cmx4trt.backends.targets import Targets
from cmx4trt.base.frozen import Frozen, field
from cmx4trt.base.options import Option, OwnOptions, options_of
from cmx4trt.errors import UnsupportedError

if TYPE_CHECKING:
    from cmx4trt.backends.flavor import QuantizationFlavor
    from cmx4trt.base.progress import Progress
    from cmx4trt.graph.network import PreparedGraph
    from cmx4trt.sessions.base import Session


class Backend(ABC):
    """Builds engines and runs them.

    - ``name``: in ``--builder``, variations, file names and manifests; ``title``: for people; ``about``: one line
    - ``devices``: where builds run ('cpu': no GPU needed, 'cuda': on the local GPU) -> what happens there
    - ``default_on``: the devices on which this is the default builder
    - ``precisions``, ``default_precision``: compute precisions; ``networks``: supported networks, empty for all
    - ``targets``: the GPUs its engines can be built for; ``serves``: the compute capabilities for which it is recommended
      if another backend does not support them
    - ``own_options``: the class that declares options which apply to no other backend, and are rejected there
    - ``request_parts``: entries of its builder's ``identity`` that depend on files named in the request, such as a table
      or a checkout; requests that differ in them have engines at different paths
    - ``quantizes``: whether this package quantizes int8 networks for it, in its ``flavor``; ``calibrates_itself``: whether
      it builds int8 engines on its own
    - ``takes_graph``: whether it builds the graph that this package prepares, which can be verified, or creates its own
    - ``cm``: what builds through CM need
    """

    name: str
    title: str
    about: str
    devices: Mapping[str, str]
    targets: Targets
    default_on: tuple[str, ...] = ()
    serves: tuple[str, ...] = ()
    precisions: tuple[str, ...] = PRECISIONS
    default_precision: str = "fp16"
    networks: tuple[str, ...] = ()
    own_options: type[OwnOptions] | None = None
    request_parts: tuple[str, ...] = ()
    quantizes: bool = True
    calibrates_itself: bool = False
    takes_graph: bool = True
    cm: CmNeeds = CmNeeds()

    @property
    def options(self) -> tuple[Option, ...]:
        """The options that only this backend has."""
        return options_of(self.own_options, self.name) if self.own_options else ()

    @abstractmethod
    def builder(self) -> GraphBuilder | ModelBuilder:
        """A builder for one build. Imports our code that builds, but no vendor library yet."""

    def load(self) -> None:
        """Load what its builder will need, such as a library. Called in a thread of its own, while the model of an engine that
        will be built is read; raises nothing."""
        return

    @abstractmethod
    def open_session(self, engine: Any, cuda_graphs: bool = False, gpu: int = 0) -> Session:
        """A session on the bytes of an engine that this backend built (a buffer); ``gpu``: the index of the visible GPU.

        Raises MissingSoftwareError or DeviceError if it cannot run here, ModelError if it is not one of its engines.
        """

    def count_gpus(self) -> int:
        """The number of GPUs available to ``open_session``. Raises like ``open_session``."""
        return 1

    def check_request(self, request: BuildOptions) -> None:
        """Reject combinations of options that only this backend knows to be impossible. Raises RequestError; opens nothing."""
        return

    def flavor(self) -> QuantizationFlavor:
        """How its int8 networks are quantized; by default like TensorRT's."""
        from cmx4trt.backends.flavor import TENSORRT

        return TENSORRT

    def fits(self, target: str, capability: str) -> bool:
        """Whether an engine for ``target`` can run on GPUs of a compute capability, such as 'sm89'."""
        return self.targets.fits(target, capability)

    def check_engine(self, engine: Any, graph: PreparedGraph, session: Session | None) -> Sequence[Check]:
        """Check an engine (a buffer) against what this backend promises beyond the graph it was built from.

        ``session``: the engine on a device, None if it cannot run here. Called by builds that verify, before the engine
        is published, and by ``cmx4trt verify``.
        """
        return ()

    def measure(self, session: Session) -> Measurement | None:
        """How fast an engine is on the local GPU; None from a backend that does not measure. Called after an engine has passed
        its checks, while nothing else uses the session. Raises DeviceError."""
        return None

    def tune(self, graph: Callable[[], PreparedGraph], request: BuildOptions, progress: Progress) -> Tuning:
        """Measure on the local GPU which kernels are fastest for an engine of ``request``.

        ``graph``: a function that prepares its graph, which takes longer than finding out that there is no suitable GPU. Raises
        UnsupportedError from a backend without alternative kernels, DeviceError, MissingSoftwareError, BuildError.
        """
        raise UnsupportedError(f"{self.title} has no alternative kernels to measure; use its engines as they are")

    def sections(self, built: Mapping[str, Any], executed: Mapping[str, Any]) -> Sequence[Section]:
        """Sections of ``inspect`` and of the report, from what its builder reported and from the record of the execution.

        Both come from a manifest, which may be from another version or have been edited.
        """
        return ()


class BuiltEngine(Frozen):
    """A serialized engine in memory (``data`` supports the buffer protocol) and what the library reported about it.

    ``facts`` goes into the manifest unchanged (JSON types only): layers, scratch memory, …
    """

    data: Any
    facts: Mapping[str, Any] = field(default_factory=dict)
    log: tuple[str, ...] = ()


class Builder(Protocol):
    """Common interface of all builders; each is also a GraphBuilder or a ModelBuilder. One instance serves one build."""

    name: str

    def version(self) -> str:
        """The version of the underlying library, without importing it. Raises MissingSoftwareError, naming what to install."""

    def resolve(self, request: BuildOptions) -> Mapping[str, Any]:
        """Options that only the builder can determine, by name; they replace those of the request. Usually none.

        Raises CmxError for what it cannot build here; builds nothing.
        """

    def identity(self, request: BuildOptions) -> Mapping[str, str]:
        """The properties of this machine and library that an engine depends on, for the fingerprint; imports nothing heavy.

        Has at least ``name`` and ``version``.
        """


class GraphBuilder(Builder, Protocol):
    """Builds an engine from a graph that we prepared, and that can therefore be verified."""

    def build(
        self, graph: PreparedGraph, request: BuildOptions, progress: Progress, stopped: Callable[[], bool]
    ) -> BuiltEngine:
        """Build the engine of ``graph``; gives up soon after ``stopped()`` becomes true. Raises BuildError with the library's
        reason."""


@runtime_checkable
class ModelBuilder(Builder, Protocol):
    """Builds an engine from the model file in ways we cannot inspect; ``unverified`` says why it is not verified.

    ``identity`` may execute third-party code. ``resolve`` and ``version`` only read: a dry run uses nothing else.
    """

    unverified: str

    def place(self, request: BuildOptions) -> Mapping[str, str]:
        """The parts of ``identity`` that the engine's path depends on: the GPU, and ``request_parts``. Only reads, like
        ``resolve``."""

    def build_from_model(self, request: BuildOptions, progress: Progress, log: str) -> BuiltEngine:
        """The engine of ``request.model``; what the builder prints goes to the file ``log``.

        Raises CmxError; KeyboardInterrupt ends all processes it has started.
        """
