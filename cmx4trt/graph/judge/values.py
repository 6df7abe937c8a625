"""What is known of a prepared graph's values before it is run."""

from __future__ import annotations

from collections.abc import Mapping

from cmx4trt.graph.shapes import Shape, output_shape
from cmx4trt.ir.model import DType, Graph


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
