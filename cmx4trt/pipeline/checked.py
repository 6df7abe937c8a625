"""A prepared graph and what its comparison with the original found: both made once in a process, whoever asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmx4trt.base.progress import Progress
from cmx4trt.base.verdicts import FAILED
from cmx4trt.pipeline.prepare import Prepared, prepare, verify, verify_execution
from cmx4trt.pipeline.source import Source
from cmx4trt.requests.build import BuildRequest

if TYPE_CHECKING:
    from cmx4trt.quantize import CalibrationData
    from cmx4trt.sessions.base import Session
    from cmx4trt.verify import Verification


class CheckedGraph:
    """What was prepared of ``source`` for ``request``. A comparison draws the same inputs each time: it runs once."""

    def __init__(self, prepared: Prepared, source: Source, request: BuildRequest) -> None:
        self.prepared = prepared
        self.request = request
        self._source = source
        self._graph: Verification | None = None
        self._engines: dict[str, Verification] = {}

    def verify(self) -> Verification:
        """Whether the graph agrees with the original model."""
        if self._graph is None:
            self._graph = verify(self.prepared, self._source.message, self.request)
        return self._graph

    def verify_engine(self, session: Session, sha256: str) -> Verification:
        """Whether the engine with this digest, which ``session`` runs, agrees with the original model.

        An int8 engine is held to the float32 graph, and that graph to the original.
        """
        if sha256 not in self._engines:
            if self.prepared.float32 is not None and (found := self.verify()).verdict == FAILED:
                return found
            self._engines[sha256] = verify_execution(self.prepared, self._source.message, self.request, session)
        return self._engines[sha256]


def checked_graph(
    request: BuildRequest, source: Source, progress: Progress, calibration: CalibrationData | None
) -> CheckedGraph:
    """The graph of ``source`` for ``request``, prepared now. Raises as ``prepare`` does."""
    return CheckedGraph(prepare(request, source, progress, calibration), source, request)
