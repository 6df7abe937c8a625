"""A model that was quantized before it came here: the graph with its own scales against the file itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from math import inf, isnan
from typing import TYPE_CHECKING, ClassVar

from cmx4trt.base.verdicts import FAILED, PASSED
from cmx4trt.networks import network_of_spec
from cmx4trt.networks.base import OriginalMessage
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession
from cmx4trt.verify.quantization import (
    FLOOR_SQNR_DB,
    Evidence,
    QuantizationAccuracy,
    answer_alike,
    has_own_images,
    judge_quantized,
    measure_quantization,
    open_with_values,
    with_values,
)

if TYPE_CHECKING:
    from cmx4trt.graph.network import PreparedGraph
    from cmx4trt.graph.options import GraphOptions
    from cmx4trt.ir.model import Model


OWN_ROUNDING_DB = 6.0
"""In a network that makes small errors as large as its noise, a file, which rounds sums before their ReLU, and a graph, which
computes the rest in float16, round independently: they are apart by the noise of both, 3 dB more than the file is from its own
network in floats. As much again is left for chance."""
ALIKE_DB = 2.0
"""Largest difference of how far file and graph are from their network in floats, where both have the same scales (measured: 0.3);
a scale that is wrong on one side changes that side's."""


class OwnScalesAccuracy(QuantizationAccuracy):
    """As its base. Both sides round with the same scales, so that made-up images tell, too; where the file itself is far from its
    network in floats, the limit follows from how far."""

    __slots__ = ()
    method: ClassVar[str] = "ONNX Runtime: the INT8 graph given to the builder against the quantized model"

    @property
    def verdict(self) -> str:
        """PASSED where every output keeps its SQNR (a NaN does not), all layers are those of the quantized network, and results
        follow from raw results on both sides; else FAILED."""
        good = all(value is None or value >= self.limit_db for value in self.sqnr_db.values())
        good = good and self.consistent and (self.layers is None or self.layers.passed)
        return PASSED if good and self.non_finite is None else FAILED


def verify_own_scales(
    float32: PreparedGraph,
    graph: PreparedGraph,
    quantized: Model,
    original: OriginalMessage,
    evidence: Evidence,
    options: GraphOptions,
    scale: float | None,
) -> OwnScalesAccuracy:
    """Compare ``graph`` with the quantized file that it was made of, and its layers with ``quantized``, before it was cast.

    ``float32``: the same network without quantization; ``scale`` is that of an int8 input.
    """
    network = network_of_spec(graph.spec)
    file = network.open_quantized_file(graph, original, options)
    results = network.results(graph, options)
    session = open_with_values(graph, results.values)
    found = measure_quantization(file, session, evidence, network.int8_images, results, scale)
    consistent = found.consistent and file.consistent and has_own_images(session, evidence, scale, results.values)
    consistent = consistent and answer_alike(results, float32, graph)
    found = replace(found, consistent=consistent, layers=judge_quantized(graph.model, quantized, evidence, scale))
    found = replace(found, non_finite=session.non_finite())
    if _lowest(found) < found.limit_db:
        exact = OnnxRuntimeSession.from_graph(with_values(float32, results.values))
        theirs, own = (
            measure_quantization(exact, side, evidence, network.int8_images, results, scale) for side in (file, session)
        )
        if _are_alike(theirs.sqnr_db, own.sqnr_db):
            limit = max(FLOOR_SQNR_DB, min(found.limit_db, _lowest(theirs) - OWN_ROUNDING_DB))
            found = replace(found, limit_db=limit)
    return OwnScalesAccuracy(**{one.name: getattr(found, one.name) for one in fields(QuantizationAccuracy)})


def _lowest(found: QuantizationAccuracy) -> float:
    """The smallest SQNR, in dB; NaN counts as none."""
    return min(map(_decibels, found.sqnr_db.values()), default=inf)


def _are_alike(theirs: Mapping[str, float | None], own: Mapping[str, float | None]) -> bool:
    """Whether of each output both sides' errors have the same energy."""
    pairs = [(_decibels(theirs[name]), _decibels(own[name])) for name in own]
    return all(first == second or abs(first - second) <= ALIKE_DB for first, second in pairs)


def _decibels(value: float | None) -> float:
    return inf if value is None else -inf if isnan(value) else value
