"""What a builder is: the one interface between the pipeline and a vendor library or NVIDIA's own code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from cmx4trt.progress import Progress
from cmx4trt.request import BuildRequest

if TYPE_CHECKING:
    from cmx4trt.graph.network import PreparedGraph


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """A serialized engine in memory (``data`` supports the buffer protocol) and what the library said about it.

    ``facts`` goes into the manifest as it is (JSON types only): layers, scratch memory, …
    """

    data: Any
    facts: Mapping[str, Any] = field(default_factory=dict)
    log: tuple[str, ...] = ()


class Builder(Protocol):
    """What all builders have in common; each is also a GraphBuilder or a ModelBuilder."""

    name: str

    def version(self) -> str:
        """The version of what builds, without importing it. Raises MissingSoftwareError, naming what to install."""

    def resolve(self, request: BuildRequest) -> BuildRequest:
        """The request, with what only the builder knows filled in. Raises CmxError for what it cannot build; builds nothing."""

    def identity(self, request: BuildRequest) -> Mapping[str, str]:
        """What of this machine and library an engine depends on, for the fingerprint; nothing heavy is imported."""


class GraphBuilder(Builder, Protocol):
    """Makes an engine of a graph that we prepared, and that can therefore be verified."""

    def build(
        self, graph: PreparedGraph, request: BuildRequest, progress: Progress, stopped: Callable[[], bool]
    ) -> BuiltEngine:
        """The engine of ``graph``; gives up soon after ``stopped()`` turns true. Raises BuildError with the library's reason."""


@runtime_checkable
class ModelBuilder(Builder, Protocol):
    """Makes an engine of the model file by itself, in ways we cannot see into; ``unverified`` says why that is not verified.

    ``identity`` may execute code of somebody else. ``resolve`` and ``version`` only read: a dry run asks for no more.
    """

    unverified: str

    def build_from_model(self, request: BuildRequest, progress: Progress) -> BuiltEngine:
        """The engine of ``request.model``. Raises CmxError; KeyboardInterrupt ends what it has started."""
