"""From a source to the graph a builder is given, quantized where the request says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmx4trt.backends import backend_of
from cmx4trt.base.frozen import Frozen
from cmx4trt.base.progress import Progress
from cmx4trt.base.verdicts import FAILED
from cmx4trt.errors import ModelError
from cmx4trt.networks import spec_of
from cmx4trt.pipeline.source import Source
from cmx4trt.requests.build import BuildRequest

if TYPE_CHECKING:
    from cmx4trt.graph.network import PreparedGraph
    from cmx4trt.graph.options import GraphOptions
    from cmx4trt.ir.model import Model
    from cmx4trt.quantize import CalibrationData, QuantizationReport
    from cmx4trt.sessions.base import Session
    from cmx4trt.verify import OriginalMessage, Verification
    from cmx4trt.verify.quantization import Evidence, QuantizationAccuracy


class Prepared(Frozen):
    """The graph to build; of an int8 graph also the same network in float32, what was quantized on what grounds, and the
    ``quantized`` network before it was cast."""

    graph: PreparedGraph
    float32: PreparedGraph | None = None
    quantization: QuantizationReport | None = None
    quantized: Model | None = None


def quantizes(request: BuildRequest) -> bool:
    """Whether this package quantizes the network (NVIDIA's code calibrates on its own)."""
    return request.precision == "int8" and backend_of(request.builder).quantizes


def check_calibration(request: BuildRequest) -> None:
    """Refuse an int8 request that names nothing to calibrate with; opens no file. Raises DataError, RequestError."""
    if quantizes(request):
        from cmx4trt.quantize import check_request

        check_request(request)


def calibration_of(request: BuildRequest, progress: Progress) -> CalibrationData | None:
    """What an int8 engine is calibrated with; None for others. Raises DataError, RequestError."""
    if not quantizes(request):
        return None
    from cmx4trt.quantize import open_data

    check_calibration(request)
    return open_data(request, spec_of(request.network).input_shape, progress)


def prepare(
    request: BuildRequest, source: Source, progress: Progress, calibration: CalibrationData | None = None
) -> Prepared:
    """The prepared graph of ``source``'s network. Raises ModelError on another network, DataError on unusable images.

    Its ``check`` is left to the caller, who may have something else to do meanwhile.
    ``calibration`` is what ``calibration_of`` gave for the request, where that was done already.
    """
    source.start_reading()
    from cmx4trt.networks.graphs import network_from_model, prepared_from_network

    options = request.graph_options()
    network = network_from_model(source.model(), spec_of(request.network), options)
    if left_out := network.notes.get("outputs_left_out"):
        progress.note(f"the model's outputs {left_out} are left out: the engine has {network.spec.title}'s")
    if count := network.notes.get("own_ranges_left_out"):
        progress.note(f"{count} activations that the model quantizes behind its raw results stay in float32")
    if not quantizes(request):
        if network.own is not None:
            raise ModelError(
                f"the model is quantized already (Q/DQ), which is built with its own scales in int8, not in {request.precision}; "
                "give --precision=int8, or the float model"
            )
        return Prepared(prepared_from_network(network, options))
    from cmx4trt.quantize import quantize_network

    flavor = backend_of(request.builder).flavor()
    twin = network.copy()
    report = quantize_network(network, request, progress, flavor, calibration)
    quantized = network.model.copy()
    graph = prepared_from_network(network, options, flavor.rest)
    return Prepared(graph, prepared_from_network(twin, options.in_float32()), report, quantized)


def verify(prepared: Prepared, original: OriginalMessage, request: BuildRequest) -> Verification:
    """Whether the graph agrees with the original model.

    An int8 graph is held to its float32 twin, and the twin to the original: so a wrong network shows however much
    quantization changes. A model that came quantized is the original of its int8 graph, and without its pairs of the twin.
    """
    from dataclasses import replace

    from cmx4trt.graph.without_pairs import without_pairs
    from cmx4trt.networks.graphs import valid_graph
    from cmx4trt.quantize.calibration import OWN
    from cmx4trt.verify import verify_graph

    options = request.graph_options()
    with valid_graph(options):
        if prepared.float32 is None:
            return verify_graph(prepared.graph, original, options)
        report = prepared.quantization
        is_own = report is not None and report.origin == OWN
        in_floats = without_pairs(original) if is_own else original
        exact = verify_graph(prepared.float32, in_floats, options.in_float32())
        if exact.verdict == FAILED:
            return exact
        found = _verify_own_scales(prepared, original, options) if is_own else _verify_quantized(prepared, request)
    return replace(found, float32_graph=exact.to_dict())


def verify_execution(
    prepared: Prepared, original: OriginalMessage, request: BuildRequest, engine: Session
) -> Verification:
    """Whether the engine of a graph that ``verify`` has accepted computes the same; an int8 engine as the float32 twin."""
    from cmx4trt.verify import verify_graph

    if prepared.float32 is None:
        return verify_graph(prepared.graph, original, request.graph_options(), engine)
    return _verify_quantized(prepared, request, engine)


def _verify_own_scales(prepared: Prepared, original: OriginalMessage, options: GraphOptions) -> QuantizationAccuracy:
    from cmx4trt.verify.own_scales import verify_own_scales

    assert prepared.float32 is not None
    assert prepared.quantized is not None
    evidence, scale = _evidence(prepared)
    return verify_own_scales(prepared.float32, prepared.graph, prepared.quantized, original, evidence, options, scale)


def _evidence(prepared: Prepared) -> tuple[Evidence, float | None]:
    """The images that the quantization is measured on, and the scale of an int8 input."""
    from cmx4trt.verify.quantization import Evidence

    report = prepared.quantization
    assert report is not None
    return Evidence(report.images, report.held_out, report.synthetic), report.input_scale


def _verify_quantized(prepared: Prepared, request: BuildRequest, engine: Session | None = None) -> QuantizationAccuracy:
    from cmx4trt.verify.quantization import verify_quantized

    assert prepared.float32 is not None
    evidence, scale = _evidence(prepared)
    return verify_quantized(prepared.float32, prepared.graph, evidence, request, scale, engine, prepared.quantized)
