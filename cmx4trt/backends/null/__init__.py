"""A backend that builds and computes nothing: for tests and for measurements of everything around it.

It is not in the registry; ``with registered(NullBackend()):`` puts it there.
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
    """Its engines are a few bytes that say how large a batch is; whatever is asked of them, the answer is class 0."""

    name = "null"
    title = "nothing"
    about = "Builds nothing, computes nothing"
    devices: Mapping[str, str] = {"cpu": "nothing is built", "cuda": "nothing is built"}
    targets = Targets(names={"current": ()}, default="current")

    def builder(self) -> GraphBuilder:
        """A builder that is done at once."""
        return NullBuilder(self.name)

    def open_session(self, engine: Any, cuda_graphs: bool = False, gpu: int = 0) -> Session:
        """A session with as many streams as the engine says."""
        from cmx4trt.sessions.null import NullSession

        try:
            said = json.loads(bytes(engine))
            return NullSession(int(said["batch_size"]), int(said["copy_streams"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"this is not an engine of the builder {self.name} ({error!r}); build it again") from error


class NullBuilder:
    """Writes down the largest batch and the number of streams."""

    def __init__(self, name: str) -> None:
        self.name = name

    def version(self) -> str:
        """There is only one."""
        return "1"

    def resolve(self, request: BuildOptions) -> Mapping[str, Any]:
        """Nothing of its own."""
        return {}

    def identity(self, request: BuildOptions) -> Mapping[str, str]:
        """Nothing of the machine."""
        return {"name": self.name, "version": self.version()}

    def build(
        self, graph: PreparedGraph, request: BuildOptions, progress: Progress, stopped: Callable[[], bool]
    ) -> BuiltEngine:
        """The few bytes."""
        said = {"batch_size": request.batch_size, "copy_streams": request.copy_streams}
        return BuiltEngine(json.dumps(said).encode())
