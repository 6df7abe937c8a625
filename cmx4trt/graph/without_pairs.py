"""A quantized file without its quantization: the float network that it stands for, value by value under the file's names."""

from __future__ import annotations

from collections.abc import Callable

from cmx4trt.graph.integer_operators import split_integers
from cmx4trt.graph.own_quantization import take_apart
from cmx4trt.graph.passes import lift_constants
from cmx4trt.ir.model import Node
from cmx4trt.ir.onnx_file import EncodedGraph, decode_encoded, encode_model


def without_pairs(original: Callable[[str], EncodedGraph]) -> Callable[[str], EncodedGraph]:
    """``original`` gives a file with one value among its outputs; so does the result, of the same file in floats."""
    return lambda output: _in_floats(original(output))


def _in_floats(file: EncodedGraph) -> EncodedGraph:
    model = decode_encoded(file)
    graph = model.graph
    outputs = [info.name for info in graph.outputs]
    lift_constants(graph)
    split_integers(graph)
    take_apart(graph)
    for info, name in zip(graph.outputs, outputs, strict=True):
        if info.name != name:  # what the file quantizes once more
            graph.nodes.append(Node("Identity", [info.name], [name], {}, f"{name}_in_floats"))
            info.name = name
    return encode_model(model)
