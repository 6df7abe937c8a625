"""What is known of a prepared graph's values before it is run."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from cmx4trt.graph.shapes import Shape, output_shape
from cmx4trt.ir.model import DType, Graph

OPTIMIZED = 4
"""Values for each weight from which on ONNX Runtime's optimizations spare more time than rearranging all weights takes.
On ResNet-50, as many weights as values, in one thread: 0.11 s more to open a session, 0.026 s less for an image."""


def is_brief(elements: int, weights: int) -> bool:
    """Whether a graph of so many ``weights``, of whose values so many ``elements`` are computed, is best run as it is written."""
    return elements < OPTIMIZED * weights


def is_run_briefly(graph: Graph, images: int) -> bool:
    """Whether a session on ``graph``, or on the file it was made of, for so many images in all is."""
    elements = sum(prod(shape) for shape in value_shapes(graph).values())
    return is_brief(elements * images, sum(prod(tensor.dims) for tensor in graph.initializers.values()))


def type_of_image(graph: Graph, reduced: Mapping[str, DType]) -> dict[str, DType]:
    """The type that the graph's input has as soon as it is read."""
    name = graph.inputs[0].name
    if graph.inputs[0].dtype is DType.INT8:
        return {name: DType.INT8}
    readers = graph.consumers().get(name, [])
    types = {reduced.get(node.outputs[0]) for node in readers}
    found = types.pop() if len(types) == 1 and all(node.op_type == "Cast" for node in readers) else None
    return {name: found} if found else {}


def value_shapes(graph: Graph) -> dict[str, Shape]:
    """The shapes of values for one image, as far as they follow from the input's."""
    found: dict[str, Shape] = {name: tensor.dims for name, tensor in graph.initializers.items()}
    for info in graph.inputs:
        found[info.name] = (1, *(size for size in (info.dims or ())[1:] if isinstance(size, int)))
    for node in graph.nodes:
        shape = output_shape(node, [found.get(name) for name in node.inputs], graph.initializers)
        if shape is not None:
            found[node.outputs[0]] = shape
    return {name: shape for name, shape in found.items() if name not in graph.initializers}
