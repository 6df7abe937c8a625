"""``cmx4trt calibrate``: ranges for int8, written in our format and in TensorRT's."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cmx4trt.base.files import check_file, write_atomic
from cmx4trt.base.progress import READ_MODEL, Progress
from cmx4trt.base.values import parse_path
from cmx4trt.cli.arguments import add_option
from cmx4trt.cli.following import after_calibrate, print_next
from cmx4trt.cli.output import print_table
from cmx4trt.errors import DataError, RequestError
from cmx4trt.networks import network_of_spec, spec_of
from cmx4trt.pipeline.source import source_of_request
from cmx4trt.requests.build import BuildRequest
from cmx4trt.requests.options import build_option

if TYPE_CHECKING:
    from cmx4trt.graph.network import CanonicalGraph
    from cmx4trt.quantize.calibration import Calibration
    from cmx4trt.quantize.ranges import Ranges

_OPTIONS = (
    "network",
    "model",
    "random_weights",
    "input_range",
    "calibration_data",
    "calibration_list",
    "calibration_count",
    "calibration_method",
    "calibration_cache",
)
_OUTPUTS = ("ranges", "tensorrt_cache")
NAMES = ("graph", "nvidia")
WORST = 10
"""Rows in tables of layers."""
TABLE_IMAGES = 2
"""Images for the table of worst layers: the errors of layers hardly differ between images."""

Rows = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Section:
    """A table to be printed."""

    title: str
    rows: Rows


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """The arguments of ``cmx4trt calibrate``."""
    for name in _OPTIONS:
        add_option(parser, build_option(name))
    parser.add_argument("--ranges", metavar="FILE", help="write the ranges as JSON, for --calibration_cache")
    parser.add_argument(
        "--tensorrt_cache", "--tensorrt-cache", metavar="FILE", help="write a TensorRT calibration cache"
    )
    parser.add_argument(
        "--tensorrt_names",
        "--tensorrt-names",
        choices=NAMES,
        default="graph",
        help="tensor names in the TensorRT cache: those of the ONNX file, or NVIDIA's for ResNet-50 (default: graph)",
    )
    parser.add_argument(
        "--rank", action="store_true", help="show the most sensitive layers, and the gain from keeping each in float16"
    )
    parser.set_defaults(interrupted="interrupted; the next calibration with the same images will continue here")


def run(arguments: argparse.Namespace) -> int:
    """Calibrate, write the requested files, and print the results. Raises CmxError."""
    from cmx4trt.cli.terminal import TerminalProgress

    for section in _calibrate(arguments, TerminalProgress(sys.stderr)):
        print_table(section.title, section.rows)
    options = {name: getattr(arguments, name) for name in _OPTIONS}
    print_next(after_calibrate(options, arguments.ranges or arguments.tensorrt_cache))
    return 0


def _calibrate(arguments: argparse.Namespace, progress: Progress) -> list[Section]:
    from cmx4trt.networks.graphs import network_from_model
    from cmx4trt.quantize import calibrate, check_request, place

    outputs = {name: _output(name, getattr(arguments, name)) for name in _OUTPUTS}
    values = {name: getattr(arguments, name) for name in _OPTIONS}
    request = BuildRequest.from_values({**values, "precision": "int8"})
    check_request(request)
    if arguments.rank and request.calibration_data is None:
        raise RequestError("rank needs images; add --calibration_data")
    with progress.stage(READ_MODEL):
        model = source_of_request(request).model()
    file_input = model.graph.inputs[0].name if model.graph.inputs else ""
    network = network_from_model(model, spec_of(request.network), request.graph_options())
    placement = place(network.model.graph)
    calibration = calibrate(network, placement, request, progress)
    sections = [Section("calibrated", _summary(calibration, len(placement.activations)))]
    written = _write_files(outputs, arguments.tensorrt_names, network, calibration.ranges, file_input)
    if written:
        sections.append(Section("written", written))
    return sections + (_rank(network, calibration, progress) if arguments.rank else [])


def _summary(calibration: Calibration, activations: int) -> Rows:
    ranges = calibration.ranges
    return [
        ("ranges from", calibration.origin + (" (reused from an earlier run)" if calibration.reused else "")),
        ("method", ranges.method),
        ("images", str(ranges.samples)),
        ("tensors with a range", f"{len(ranges.scales)} of {activations}"),
        ("network sha256", ranges.model_sha256),
        ("data sha256", ranges.data_sha256),
    ]


def _output(name: str, value: str | None) -> str | None:
    """The path of a file to write, validated before the images are run. Raises RequestError, OutputError."""
    if value is None:
        return None
    path = parse_path(name, value)
    check_file(path, f"--{name}")
    return path


def _write_files(
    outputs: Mapping[str, str | None], kind: str, network: CanonicalGraph, ranges: Ranges, file_input: str
) -> Rows:
    from cmx4trt.quantize.tensorrt_cache import encode_cache

    rows: Rows = []
    if path := outputs["ranges"]:
        write_atomic(path, ranges.to_json().encode(), "--ranges")
        rows.append(("ranges", path))
    if path := outputs["tensorrt_cache"]:
        names = _tensorrt_names(network, file_input, kind)
        scales = {names.get(tensor, tensor): scale for tensor, scale in ranges.scales.items()}
        write_atomic(path, encode_cache(scales), "--tensorrt_cache")
        rows.append(("TensorRT cache", f"{path} ({len(scales)} tensors)"))
    return rows


def _tensorrt_names(network: CanonicalGraph, file_input: str, kind: str) -> dict[str, str]:
    """Tensor of the network -> its name in a cache, if they differ."""
    graph = network.model.graph
    if kind == "graph":
        return {graph.inputs[0].name: file_input}
    names = dict(network_of_spec(network.spec).names_in_caches(graph))
    if not names:
        raise DataError(f"NVIDIA's tensor names for {network.spec.title} are not known; use --tensorrt_names=graph")
    return names


def _rank(network: CanonicalGraph, calibration: Calibration, progress: Progress) -> list[Section]:
    from cmx4trt.quantize.sensitivity import quantized_copy, rank_layers
    from cmx4trt.verify.layers import layer_errors

    model, ranges = network.model, calibration.ranges
    assert calibration.samples is not None
    with progress.stage("rank layers"):
        ranking = rank_layers(model, ranges, calibration.samples, progress)
    gains = [
        (gain.layer, f"{gain.share:6.1%} of the error; in float16 the SQNR improves by {gain.gain_db:.2f} dB")
        for gain in ranking
    ]
    layers = _layer_outputs(network, [gain.layer for gain in ranking])
    with progress.stage("compare layers"):
        errors = layer_errors(model, quantized_copy(model, ranges, []), layers, calibration.images, TABLE_IMAGES)
    worst = [(e.layer, "equal" if e.sqnr_db is None else f"SQNR {e.sqnr_db:.1f} dB") for e in errors]
    return [Section("layers to keep in float16, best first", gains[:WORST]), Section("worst layers", worst[:WORST])]


def _layer_outputs(network: CanonicalGraph, layers: Sequence[str]) -> list[str]:
    from cmx4trt.quantize.rules import layer_name

    return [node.outputs[0] for node in network.model.graph.nodes if layer_name(node) in set(layers)]
