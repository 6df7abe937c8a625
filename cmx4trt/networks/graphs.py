"""The way from a model file to the graph a builder is given.

Model --network_from_model--> CanonicalGraph (float32) --[quantize]--> CanonicalGraph --prepared_from_network--> PreparedGraph
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from cmx4trt.base.damage import MALFORMED, reason
from cmx4trt.errors import ModelError
from cmx4trt.graph.network import CanonicalGraph, PreparedGraph
from cmx4trt.graph.options import GraphOptions
from cmx4trt.graph.spec import ModelSpec
from cmx4trt.ir.model import DType, Model, Tensor
from cmx4trt.networks import network_of_spec


def network_from_model(model: Model, spec: ModelSpec, request: GraphOptions) -> CanonicalGraph:
    """The canonical float32 network of a file's ``model``, which is consumed. Raises ModelError on another network."""
    with valid_graph(request):
        return network_of_spec(spec).import_model(model, request)


@contextmanager
def valid_graph(request: GraphOptions) -> Iterator[None]:
    """Turns what a graph leads to that breaks ONNX's own rules (operators without inputs, shapes that do not fit, attributes of
    another type) into a sentence, and has every sentence name the file. Raises ModelError."""
    try:
        yield
    except ModelError as error:
        if request.model is None or request.model in str(error):
            raise
        raise ModelError(f"model file {request.model}: {error}") from error
    except MALFORMED as error:
        if os.environ.get("CMX4TRT_DEBUG"):
            raise
        raise ModelError(
            f"the graph of {request.model or 'the model'} breaks ONNX's rules ({reason(error)}); check it with onnx.checker and "
            "export it again (CMX4TRT_DEBUG=1 shows where)"
        ) from error


def prepared_from_network(graph: CanonicalGraph, request: GraphOptions, rest: DType | None = None) -> PreparedGraph:
    """The graph to build: ``graph`` (consumed) in the precision and with the inputs and outputs that are asked for.

    ``rest``: another type than the precision's own for what is not quantized. Raises ModelError for a weight beyond float16;
    those that are float16 in the file are looked at by ``PreparedGraph.check``.
    """
    from cmx4trt.graph.precision import DTYPES, cast_floats

    network = network_of_spec(graph.spec)
    onnx, float_types = graph.model.graph, {"fp32": DType.FLOAT, "fp16": DType.FLOAT16}
    for info in onnx.inputs:
        info.dtype = float_types.get(request.input_dtype, info.dtype)  # An int8 input is quantization's work.
    if network.gives_raw_results(request):
        for info in onnx.outputs:
            info.dtype = float_types[request.output_dtype]
    unchecked: list[Tensor] = []
    casts = cast_floats(graph.model, rest or DTYPES[request.precision], unchecked=unchecked)
    network.attach_outputs(graph, request)
    notes = {**graph.notes, "opset": str(graph.model.opset), "casts": str(casts)}
    return PreparedGraph.from_network(graph, notes, unchecked)
