"""Writes the graph that a builder is given, for whoever wants to look at it, run it, or build it by other means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmx4trt.backends import backend_of
from cmx4trt.base.files import write_atomic
from cmx4trt.base.progress import Progress
from cmx4trt.errors import UnsupportedError
from cmx4trt.pipeline.prepare import calibration_of, prepare
from cmx4trt.pipeline.source import source_of_request
from cmx4trt.requests.build import BuildRequest

if TYPE_CHECKING:
    from cmx4trt.graph.network import PreparedGraph


def graph_of(request: BuildRequest, progress: Progress) -> PreparedGraph:
    """The graph that ``request``'s builder is given. Raises UnsupportedError where that is none of ours, and as
    ``prepare``."""
    backend = backend_of(request.builder)
    if not backend.takes_graph:
        raise UnsupportedError(
            f"{backend.title} builds from a graph of its own, so there is none to save; use another builder"
        )
    calibration = calibration_of(request, progress)
    with progress.stage("prepare"):
        graph = prepare(request, source_of_request(request), progress, calibration).graph
        graph.check()
        return graph


def save_graph(graph: PreparedGraph, path: str, setting: str) -> None:
    """Write ``graph`` as one ONNX file, all constants in it; ``setting`` is the flag that named ``path``. Raises OutputError.

    Whoever reads and encodes it again as ``encode_model`` does gets the digest that the manifest has (``graph.sha256``).
    """
    from cmx4trt.ir.onnx_file import encode_model

    write_atomic(path, encode_model(graph.model, inline_bytes=None).message, setting)
