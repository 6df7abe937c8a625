"""A model that was quantized before it came here: the graph with its own scales against the file itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar

from cmx4trt.base.verdicts import FAILED, PASSED
from cmx4trt.graph.execution import open_faithful, open_original
from cmx4trt.networks import network_of_spec
from cmx4trt.networks.base import OriginalMessage
from cmx4trt.networks.classification.outputs import CLASS, LOGITS, ClassifierDetails
from cmx4trt.sessions.batches import run_one_by_one
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession
from cmx4trt.verify.quantization import Evidence, QuantizationAccuracy, measure_quantization

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cmx4trt.graph.network import PreparedGraph
    from cmx4trt.graph.options import GraphOptions


class OwnScalesAccuracy(QuantizationAccuracy):
    """As its base. Both sides round with the same scales, so that made-up images tell, too."""

    __slots__ = ()
    method: ClassVar[str] = "ONNX Runtime: the INT8 graph given to the builder against the quantized model"

    @property
    def verdict(self) -> str:
        """PASSED where every output keeps its SQNR (a NaN does not), else FAILED."""
        good = all(value is None or value >= self.limit_db for value in self.sqnr_db.values())
        return PASSED if good else FAILED


def verify_own_scales(
    graph: PreparedGraph, original: OriginalMessage, evidence: Evidence, options: GraphOptions, scale: float | None
) -> OwnScalesAccuracy:
    """Compare ``graph`` with the quantized classifier it was made of; ``scale`` is that of an int8 input."""
    details = graph.details
    assert isinstance(details, ClassifierDetails)
    network = network_of_spec(graph.spec)
    file = _File(open_original(original(details.reference_output), details.source_precision), details.reference_output)
    session = open_faithful(graph.model)
    results = network.results(graph, options)
    found = measure_quantization(file, session, evidence, network.int8_images, results, scale)  # type: ignore[arg-type]
    return OwnScalesAccuracy(**{one.name: getattr(found, one.name) for one in fields(QuantizationAccuracy)})


class _File:
    """The file as a session with an engine's outputs."""

    def __init__(self, session: OnnxRuntimeSession, output: str) -> None:
        self._session = session
        self._output = output
        self.inputs = session.inputs

    def input_dtype(self, name: str) -> str:
        """What the images are given in; the file's own type is its session's matter."""
        return "float32"

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Logits and class of one image [1, C, H, W]."""
        logits = run_one_by_one(self._session, feeds[self.inputs[0]], self._output)
        return {LOGITS: logits, CLASS: logits.argmax(axis=1)}
