"""What a backend is: the one interface between this package and whatever builds and runs engines.

A ``Backend`` is what ``--builder`` names: facts as data, light to import, and the two doors to the code behind it, ``builder``
and ``open_session``. All else (command line, CM, page, validation, sessions, verification, reports) asks the registry in
``cmx4trt.backends``. docs/how-to/backend.md shows how to add one. Standard library only at import.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from cmx4trt.backends.facts import PRECISIONS, Check, CmNeeds, Measurement, Section, Tuning
from cmx4trt.backends.options import BuildOptions
from cmx4trt.backends.targets import Targets
from cmx4trt.base.options import Option, OwnOptions, options_of
from cmx4trt.errors import UnsupportedError

if TYPE_CHECKING:
    from cmx4trt.backends.flavour import QuantizationFlavour
    from cmx4trt.base.progress import Progress
    from cmx4trt.graph.network import PreparedGraph
    from cmx4trt.sessions.base import Session


class Backend(ABC):
    """Builds engines and runs them.

    - ``name``: in ``--builder``, variations, file names and manifests; ``title``: for people; ``about``: one line
    - ``devices``: where builds run ('cpu': no GPU needed, 'cuda': on the local one) -> what happens there
    - ``default_on``: the devices on which a request that names no builder means this one
    - ``precisions``, ``default_precision``: what it computes in; ``networks``: what it builds, empty for all
    - ``targets``: the GPUs its engines can be for; ``serves``: the compute capabilities for which it is recommended where
      another backend cannot help
    - ``own_options``: the dataclass that declares options which mean nothing with another backend, and are refused there
    - ``request_parts``: entries of its builder's ``identity`` that follow from files which the request names, such as a table
      or a checkout; requests that differ in them have engines at different paths
    - ``quantizes``: whether this package quantizes int8 networks for it, in its ``flavour``; ``calibrates_itself``: whether
      it makes int8 engines by itself
    - ``takes_graph``: whether it builds the graph that this package prepares, which can be verified, or makes its own
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
        """The options that it owns."""
        return options_of(self.own_options, self.name) if self.own_options else ()

    @abstractmethod
    def builder(self) -> GraphBuilder | ModelBuilder:
        """A builder for one build. Imports what builds; no library yet."""

    @abstractmethod
    def open_session(self, engine: Any, cuda_graphs: bool = False, gpu: int = 0) -> Session:
        """A session on the bytes of an engine that this backend built (a buffer); ``gpu``: on which of the visible ones.

        Raises MissingSoftwareError or DeviceError where nothing here runs it, ModelError where it is not one of its engines.
        """

    def count_gpus(self) -> int:
        """How many GPUs ``open_session`` can be asked for. Raises as it does."""
        return 1

    def check_request(self, request: BuildOptions) -> None:
        """Refuse combinations of options that only this backend knows to be impossible. Raises RequestError; opens nothing."""
        return

    def flavour(self) -> QuantizationFlavour:
        """How its int8 networks are to be quantized: unless it says otherwise, as TensorRT's."""
        from cmx4trt.backends.flavour import TENSORRT

        return TENSORRT

    def fits(self, target: str, capability: str) -> bool:
        """Whether an engine for ``target`` can run on GPUs of a compute capability, such as 'sm89'."""
        return self.targets.fits(target, capability)

    def check_engine(self, engine: Any, graph: PreparedGraph, session: Session | None) -> Sequence[Check]:
        """Check an engine (a buffer) against what this backend promises beyond the graph it was built from.

        ``session``: the engine on a device, None where it does not run here. Called by builds that verify, before the engine
        is published, and by ``cmx4trt verify``.
        """
        return ()

    def measure(self, session: Session) -> Measurement | None:
        """How fast an engine is on the local GPU; None from a backend that does not measure. Called where an engine has passed
        its checks, while nothing else uses the session. Raises DeviceError."""
        return None

    def tune(self, graph: Callable[[], PreparedGraph], request: BuildOptions, progress: Progress) -> Tuning:
        """Measure on the local GPU which kernels are the fastest for an engine of ``request``.

        ``graph``: its graph, whose preparation takes longer than to see that there is no such GPU. Raises UnsupportedError
        from a backend that has no choice, DeviceError, MissingSoftwareError, BuildError.
        """
        raise UnsupportedError(f"{self.title} has no alternative kernels to measure; use its engines as they are")

    def sections(self, built: Mapping[str, Any], executed: Mapping[str, Any]) -> Sequence[Section]:
        """Parts of ``inspect`` and of the report: from what its builder reported and what is recorded of the execution.

        Both come from a manifest, which may be from another version or edited.
        """
        return ()


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """A serialized engine in memory (``data`` supports the buffer protocol) and what the library said about it.

    ``facts`` goes into the manifest as it is (JSON types only): layers, scratch memory, …
    """

    data: Any
    facts: Mapping[str, Any] = field(default_factory=dict)
    log: tuple[str, ...] = ()


class Builder(Protocol):
    """What all builders have in common; each is also a GraphBuilder or a ModelBuilder. One instance serves one build."""

    name: str

    def version(self) -> str:
        """The version of what builds, without importing it. Raises MissingSoftwareError, naming what to install."""

    def resolve(self, request: BuildOptions) -> Mapping[str, Any]:
        """Options that only the builder knows, by name, which replace the request's; most know none.

        Raises CmxError for what it cannot build here; builds nothing.
        """

    def identity(self, request: BuildOptions) -> Mapping[str, str]:
        """What of this machine and library an engine depends on, for the fingerprint; nothing heavy is imported.

        Has at least ``name`` and ``version``.
        """


class GraphBuilder(Builder, Protocol):
    """Makes an engine of a graph that we prepared, and that can therefore be verified."""

    def build(
        self, graph: PreparedGraph, request: BuildOptions, progress: Progress, stopped: Callable[[], bool]
    ) -> BuiltEngine:
        """The engine of ``graph``; gives up soon after ``stopped()`` turns true. Raises BuildError with the library's reason."""


@runtime_checkable
class ModelBuilder(Builder, Protocol):
    """Makes an engine of the model file by itself, in ways we cannot see into; ``unverified`` says why that is not verified.

    ``identity`` may execute code of somebody else. ``resolve`` and ``version`` only read: a dry run asks for no more.
    """

    unverified: str

    def place(self, request: BuildOptions) -> Mapping[str, str]:
        """What of ``identity`` the engine's path depends on: the GPU, and ``request_parts``. Only reads, as ``resolve`` does."""

    def build_from_model(self, request: BuildOptions, progress: Progress, log: str) -> BuiltEngine:
        """The engine of ``request.model``; what the builder prints goes to the file ``log``.

        Raises CmxError; KeyboardInterrupt ends what it has started.
        """
