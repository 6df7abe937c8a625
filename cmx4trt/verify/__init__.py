"""Verification: does the graph given to the builder compute what the original model computes?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from cmx4trt.graph.spec import Task
from cmx4trt.ir.onnx_file import EncodedGraph
from cmx4trt.request import BuildRequest

if TYPE_CHECKING:
    from cmx4trt.graph.network import PreparedGraph
    from cmx4trt.sessions.base import Session


class Verification(Protocol):
    """A verdict with what was measured."""

    @property
    def verdict(self) -> str:
        """PASSED where both agree, FAILED where they do not, SKIPPED where what was measured cannot tell."""

    def to_dict(self) -> dict[str, Any]:
        """For the manifest."""

    def sentence(self) -> str:
        """In words."""


OriginalMessage = Callable[[str], EncodedGraph]
"""Gives the original model, byte for byte as it was read, with one value among its outputs."""


def verify_graph(
    graph: PreparedGraph, original: OriginalMessage, request: BuildRequest, engine: Session | None = None
) -> Verification:
    """Compare the prepared graph with the original model in ONNX Runtime on the CPU, on seeded inputs.

    ``engine``, where given, runs in place of the graph it was built from.
    """
    if graph.spec.task is Task.DETECTION:
        from cmx4trt.verify.detections import verify_detector

        return verify_detector(graph, original, request, engine)
    from cmx4trt.verify.classification import verify_classifier

    return verify_classifier(graph, original, request, engine)
