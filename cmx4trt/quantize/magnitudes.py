"""The largest magnitudes on calibration images held against float16, in which an int8 engine computes its other values.

A value beyond float16's range is infinite there, which a ReLU behind it or an int8 range may hide; so every value that an
operator may make infinite is looked at, not only those that get a range.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cmx4trt.backends.flavor import QuantizationFlavor
from cmx4trt.errors import DataError
from cmx4trt.graph.judge.watch import watched_nodes
from cmx4trt.graph.network import CanonicalGraph
from cmx4trt.graph.precision import FLOAT16_MAX
from cmx4trt.ir.int8 import INT8_MAX
from cmx4trt.ir.model import DType, Graph
from cmx4trt.networks import network_of_spec

if TYPE_CHECKING:
    from cmx4trt.graph.options import GraphOptions
    from cmx4trt.quantize.plausibility import Cited
    from cmx4trt.quantize.ranges import Ranges


def watched_tensors(graph: Graph) -> tuple[str, ...]:
    """The input of a float ``graph``, and what its operators may make infinite, in order."""
    nodes = watched_nodes(graph, [info.name for info in graph.outputs])
    return (graph.inputs[0].name, *(node.outputs[0] for node in nodes))


def check_float16(
    network: CanonicalGraph, ranges: Ranges, flavor: QuantizationFlavor, options: GraphOptions, cited: Cited | None
) -> None:
    """Refuse a float ``network`` of which the int8 engine computes a tensor in float16 that exceeds it. Raises DataError.

    ``cited``: where a range stands in a cache, which holds no magnitudes; none there exceeds what its images had.
    """
    _refuse_above(
        ranges.largest, _computed_in_float16(network, flavor, options), "reaches", "on the calibration images"
    )
    if cited is not None and flavor.rest is DType.FLOAT16:
        for name, scale in ranges.scales.items():
            _refuse_above({name: scale * INT8_MAX}, {name: _REST}, "has a range of", f"in {cited(name)}")


_REST = "build with --precision=bf16 or fp32"
"""What helps where the engine computes in float16."""


def _computed_in_float16(network: CanonicalGraph, flavor: QuantizationFlavor, options: GraphOptions) -> dict[str, str]:
    """Tensor -> what helps if it exceeds float16."""
    graph = network.model.graph
    if flavor.rest is DType.FLOAT16:
        return dict.fromkeys(watched_tensors(graph), _REST)
    found = {}
    if options.input_dtype == "fp16":
        found[graph.inputs[0].name] = "build with --input_dtype=fp32"
    if options.output_dtype == "fp16" and network_of_spec(network.spec).gives_raw_results(options):
        found |= {info.name: "build with --output_dtype=fp32" for info in graph.outputs}
    return found


def _refuse_above(magnitudes: Mapping[str, float], help_by_tensor: Mapping[str, str], reaches: str, where: str) -> None:
    name = next((n for n, value in magnitudes.items() if value > FLOAT16_MAX and n in help_by_tensor), None)
    if name is not None:
        raise DataError(
            f"tensor '{name}' {reaches} {magnitudes[name]:,.6g} {where}, and float16, in which the engine holds it, ends at "
            f"{FLOAT16_MAX:,.0f}; {help_by_tensor[name]}"
        )
