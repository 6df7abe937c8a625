"""A classifier's file that is quantized already, run as the graph that is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cmx4trt.graph.execution import open_original
from cmx4trt.networks.classification.outputs import CLASS, LOGITS, ClassifierDetails
from cmx4trt.sessions.batches import run_one_by_one

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cmx4trt.graph.network import PreparedGraph
    from cmx4trt.networks.base import OriginalMessage


class QuantizedClassifier:
    """See ``networks.base.QuantizedFile``."""

    consistent = True

    def __init__(self, graph: PreparedGraph, original: OriginalMessage) -> None:
        assert isinstance(graph.details, ClassifierDetails)
        self._output = graph.details.reference_output
        self._session = open_original(original(self._output), graph.details.source_precision)
        self.inputs: tuple[str, ...] = self._session.inputs

    def input_dtype(self, name: str) -> str:
        """What the images are given in; the file's own type is its session's matter."""
        return "float32"

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Logits and class of one image [1, C, H, W]."""
        logits = run_one_by_one(self._session, feeds[self.inputs[0]], self._output)
        return {LOGITS: logits, CLASS: logits.argmax(axis=1)}
