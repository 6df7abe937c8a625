"""Verification: does the graph given to the builder compute what the original model computes?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmx4trt.networks import network_of_spec
from cmx4trt.networks.base import OriginalMessage, Verification

if TYPE_CHECKING:
    from cmx4trt.graph.network import PreparedGraph
    from cmx4trt.graph.options import GraphOptions
    from cmx4trt.sessions.base import Session

__all__ = ["OriginalMessage", "Verification", "verify_graph"]


def verify_graph(
    graph: PreparedGraph, original: OriginalMessage, options: GraphOptions, engine: Session | None = None
) -> Verification:
    """Compare the prepared graph with the original model in ONNX Runtime on the CPU, as its network does it.

    ``engine``, where given, runs in place of the graph it was built from.
    """
    return network_of_spec(graph.spec).compare(graph, original, options, engine)
