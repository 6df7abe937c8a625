"""A backend that builds and computes nothing: for tests and for measurements of everything around it.

It is not in the registry; ``with registered(NullBackend()):`` adds it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cmx4trt.backends.base import Backend, BuiltEngine, GraphBuilder
from cmx4trt.backends.options import BuildOptions
from cmx4trt.backends.targets import Targets
from cmx4trt.errors import ModelError

if TYPE_CHECKING:
    from cmx4trt.base.progress import Progress
    from cmx4trt.graph.network import PreparedGraph
    from cmx4trt.sessions.base import Session


class NullBackend(Backend):
    """Its engines are a few bytes that contain the batch size; they always answer class 0."""

    name = "null"
    title = "nothing"
    about = "Builds nothing, computes nothing"
    devices: Mapping[str, str] = {"cpu": "nothing is built", "cuda": "nothing is built"}
    targets = Targets(names={"current": ()}, default="current")

    def builder(self) -> GraphBuilder:
        """A builder that finishes immediately."""
        return NullBuilder(self.name)

    def open_session(self, engine: Any, cuda_graphs: bool = False, gpu: int = 0) -> Session:
        """A session with the number of streams given in the engine."""
        from cmx4trt.sessions.null import NullSession

        try:
            said = json.loads(bytes(engine))
            return NullSession(int(said["batch_size"]), int(said["copy_streams"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"this is not an engine of the builder {self.name} ({error!r}); build it again") from error


class NullBuilder:
    """Records the maximum batch size and the number of streams."""

    def __init__(self, name: str) -> None:
        self.name = name

    def version(self) -> str:
        """There is only one version."""
        return "1"

    def resolve(self, request: BuildOptions) -> Mapping[str, Any]:
        """No options of its own."""
        return {}

    def identity(self, request: BuildOptions) -> Mapping[str, str]:
        """Nothing that depends on the machine."""
        return {"name": self.name, "version": self.version()}

    def build(
        self, graph: PreparedGraph, request: BuildOptions, progress: Progress, stopped: Callable[[], bool]
    ) -> BuiltEngine:
        """The few bytes of the engine."""
        said = {"batch_size": request.batch_size, "copy_streams": request.copy_streams}
        return BuiltEngine(json.dumps(said).encode())
