"""Quantizes a network as a request asks: ranges, layers to leave out, then Q/DQ."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from cmx4trt.backends.flavor import TENSORRT, QuantizationFlavor
from cmx4trt.base.frozen import fields
from cmx4trt.base.progress import Progress
from cmx4trt.base.values import RANDOM_DATA
from cmx4trt.errors import DataError, RequestError
from cmx4trt.graph.network import CanonicalGraph
from cmx4trt.ir.model import Graph
from cmx4trt.quantize.calibration import NO_CALIBRATION, OWN, Calibration, CalibrationData, calibrate
from cmx4trt.quantize.magnitudes import check_float16
from cmx4trt.quantize.own import holds_pairs
from cmx4trt.quantize.placement import Placement, place, restricted, shared_scales
from cmx4trt.quantize.plausibility import check_plausible
from cmx4trt.quantize.qdq import insert_qdq
from cmx4trt.quantize.record import LayerGain, QuantizationRecord
from cmx4trt.quantize.samples import Samples
from cmx4trt.quantize.sensitivity import choose_automatically, rank_layers
from cmx4trt.requests.build import BuildRequest

MIN_COVERAGE = 0.9
"""A cache that knows less than this part of the activations was made for another network or another export of it: names
that do not match are mostly all different (NVIDIA's cache for ResNet-50 covers everything)."""
NAMED = 5
"""How many tensors without a range an error names."""


@dataclass(frozen=True, slots=True)
class QuantizationReport:
    """What was quantized and on what grounds, for the manifest and the command line.

    ``images`` serve to measure the result: images that the ranges were not taken from (``held_out``), else the calibration
    images; random ones (``synthetic``) where there are no others. ``input_scale`` is set where the input is int8.
    """

    origin: str
    method: str
    samples: int
    data_sha256: str
    model_sha256: str
    reused: bool
    coverage: float
    without_range: tuple[str, ...]
    layers: int
    quantized_layers: int
    kept: tuple[str, ...]
    pairs: int
    rules: Mapping[str, int]
    corrected_biases: int
    input_scale: float | None
    ranking: tuple[LayerGain, ...]
    held_out: bool
    synthetic: bool
    images: Samples = field(compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON types, without the images."""
        return QuantizationRecord(**{one.name: getattr(self, one.name) for one in fields(QuantizationRecord)}).to_dict()


def check_request(request: BuildRequest) -> None:
    """Refuse early what cannot be quantized; only file names are looked at. Raises DataError, RequestError."""
    if request.calibration_cache is not None:
        if not os.path.isfile(request.calibration_cache):
            raise DataError(
                f"calibration_cache {request.calibration_cache} is not a regular file; give a TensorRT cache or our JSON"
            )
        if request.calibration_data is None and _needs_ranking(request):
            raise RequestError(
                "keep_fp16 can rank layers only by running images: add --calibration_data, or name the layers"
            )
        return
    if request.calibration_data is None:
        if request.model is not None and holds_pairs(request.model):
            return  # it may have its own scales
        raise DataError(NO_CALIBRATION)
    if request.calibration_data == RANDOM_DATA and request.random_weights is None:
        raise RequestError(
            "calibration_data=random serves networks with random weights only; give images for a real model"
        )
    if request.calibration_data != RANDOM_DATA and not os.path.exists(request.calibration_data):
        raise DataError(
            f"calibration_data {request.calibration_data} does not exist; give a folder of images or a file"
        )


def quantize_network(
    network: CanonicalGraph,
    request: BuildRequest,
    progress: Progress,
    flavor: QuantizationFlavor = TENSORRT,
    data: CalibrationData | None = None,
) -> QuantizationReport:
    """Insert Q/DQ into ``network.model`` (edited in place) as ``flavor`` has it. Raises DataError, RequestError.

    ``data`` is what ``open_data`` gave for the request, where that was done already.
    """
    check_request(request)
    model = network.model
    full = place(model.graph, flavor=flavor)
    calibration = calibrate(network, full, request, progress, flavor, data)
    scales, missing = _covering_scales(full, calibration, request)
    if calibration.cited is not None:
        check_plausible(model, full, calibration.ranges.scales, calibration.images, calibration.cited, progress)
    check_float16(network, calibration.ranges, flavor, request.graph_options(), calibration.cited)
    own_float = [] if network.own is None else [n for n in full.layers if n in network.own.float_layers]
    if missing:
        progress.note(f"{len(missing)} tensors have no range and stay in {flavor.rest.name.lower()}: {_some(missing)}")
    ranking = _ranking(network, calibration, request, progress)
    kept = [*_kept_layers(request.keep_fp16, full, ranking), *own_float]
    placement = restricted(place(model.graph, kept, flavor), scales)
    _check_input(model.graph, placement, request)
    int8_input = request.input_dtype == "int8"
    own = network.own.weights if network.own else {}
    inserted = insert_qdq(model, placement, scales, calibration.ranges.means, int8_input, flavor, own)
    return QuantizationReport(
        origin=calibration.origin,
        method=calibration.ranges.method,
        samples=calibration.ranges.samples,
        data_sha256=calibration.ranges.data_sha256,
        model_sha256=calibration.ranges.model_sha256,
        reused=calibration.reused,
        coverage=1 - len(missing) / max(len(full.activations), 1),
        without_range=missing,
        layers=len(placement.layers),
        quantized_layers=len(placement.layers) - len(placement.kept),
        kept=placement.kept,
        pairs=inserted.pairs,
        rules=placement.fired(),
        corrected_biases=inserted.biases,
        input_scale=inserted.input_scale,
        ranking=tuple(ranking),
        held_out=calibration.held_out,
        synthetic=calibration.synthetic,
        images=calibration.images,
    )


def _covering_scales(
    full: Placement, calibration: Calibration, request: BuildRequest
) -> tuple[dict[str, float], tuple[str, ...]]:
    """The scale of every activation that has one, and those without. Raises DataError where they are too many."""
    scales = shared_scales(full, calibration.ranges.scales)
    missing = tuple(name for name in full.activations if name not in scales)
    total = len(full.activations)
    if calibration.origin != OWN and len(missing) > (1 - MIN_COVERAGE) * total:
        raise DataError(
            f"calibration_cache {request.calibration_cache} covers {total - len(missing)} of the network's {total} "
            f"activations, expected at least {MIN_COVERAGE:.0%}; without a range are {_some(missing)}: it was made for another "
            "network or another export of it, give the cache of this model or calibrate with --calibration_data"
        )
    return scales, missing


def _ranking(
    network: CanonicalGraph, calibration: Calibration, request: BuildRequest, progress: Progress
) -> Sequence[LayerGain]:
    """The layers by their sensitivity, where the request depends on it."""
    if not _needs_ranking(request):
        return ()
    assert calibration.samples is not None
    with progress.stage("rank layers"):
        return rank_layers(network.model, calibration.ranges, calibration.samples, progress)


def _needs_ranking(request: BuildRequest) -> bool:
    return request.keep_fp16 is not None and (request.keep_fp16 == "auto" or request.keep_fp16.isdigit())


def _kept_layers(wanted: str | None, full: Placement, ranking: Sequence[LayerGain]) -> list[str]:
    """The layers that ``keep_fp16`` means: auto, a number of the worst, or names. Raises RequestError."""
    if wanted is None:
        return []
    if wanted == "auto":
        return choose_automatically(ranking)
    if wanted.isdigit():
        return [gain.layer for gain in ranking[: int(wanted)]]
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    for name in names:
        if name not in full.layers:
            close = get_close_matches(name, full.layers, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise RequestError(
                f"keep_fp16 names '{name}', which is not a convolution or matrix product of the network{hint}"
            )
    return names


def _check_input(graph: Graph, placement: Placement, request: BuildRequest) -> None:
    name = graph.inputs[0].name
    if request.input_dtype == "int8" and name not in {edge.tensor for edge in placement.edges}:
        raise RequestError(
            "input_dtype=int8 needs a first convolution in int8 that reads the input itself; leave that layer out of keep_fp16 "
            "and the normalization out of the network (--input_range=normalized)"
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(f"'{name}'" for name in names[:NAMED]) + more
