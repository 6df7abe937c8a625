"""Passes on ONNX graphs, and the way from a model file to the graph a builder is given.

Model --network_from_model--> Network (float32) --[quantize]--> Network --prepared_from_network--> PreparedGraph
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from cmx4trt.damage import MALFORMED, reason
from cmx4trt.errors import ModelError
from cmx4trt.graph.network import GraphOptions, Network, PreparedGraph
from cmx4trt.graph.spec import ModelSpec, Task
from cmx4trt.ir.model import DType, Model


def network_from_model(model: Model, spec: ModelSpec, request: GraphOptions) -> Network:
    """The canonical float32 network of a file's ``model``, which is consumed. Raises ModelError on another network."""
    with valid_graph(request):
        if spec.task is Task.DETECTION:
            from cmx4trt.networks.retinanet.onnx_import import network_from_detector

            return network_from_detector(model, spec, request)
        from cmx4trt.networks.resnet50.onnx_import import network_from_classifier

        return network_from_classifier(model, spec)


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


def prepared_from_network(network: Network, request: GraphOptions, rest: DType | None = None) -> PreparedGraph:
    """The graph to build: ``network`` (consumed) in the precision and with the inputs and outputs that are asked for.

    ``rest``: another type than the precision's own for what is not quantized.
    """
    from cmx4trt.graph.precision import DTYPES, cast_floats

    graph, float_types = network.model.graph, {"fp32": DType.FLOAT, "fp16": DType.FLOAT16}
    for info in graph.inputs:
        info.dtype = float_types.get(request.input_dtype, info.dtype)  # An int8 input is quantization's work.
    if network.spec.task is Task.CLASSIFICATION or request.postprocess == "none":
        for info in graph.outputs:
            info.dtype = float_types[request.output_dtype]
    casts = cast_floats(network.model, rest or DTYPES[request.precision])
    if network.spec.task is Task.DETECTION:
        from cmx4trt.networks.retinanet.postprocess import attach_outputs

        attach_outputs(network, request)
    else:
        from cmx4trt.networks.resnet50.onnx_import import attach_class

        attach_class(network)
    notes = {**network.notes, "opset": str(network.model.opset), "casts": str(casts)}
    return PreparedGraph.from_network(network, notes)
