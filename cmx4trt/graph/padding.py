"""``auto_pad`` written out as the amounts it stands for."""

from __future__ import annotations

from cmx4trt.graph.shapes import Shape, output_shape
from cmx4trt.ir.model import Graph, Node

_WINDOWS = ("Conv", "MaxPool", "AveragePool")


def resolve_auto_pad(graph: Graph, image: Shape) -> int:
    """Windows with ``auto_pad`` SAME_UPPER, SAME_LOWER or VALID get ``pads``; returns how many there were.

    ``image``: the shape [1, C, H, W] of the graph's input. Requires: constants are initializers. A window whose input's size
    cannot be told stays as it is. Rules: onnx/docs/Operators.md, Conv.
    """
    shapes: dict[str, Shape] = {graph.inputs[0].name: image}
    if not any(node.attributes.get("auto_pad", "NOTSET") != "NOTSET" for node in graph.nodes):
        return 0
    shapes |= {name: tensor.dims for name, tensor in graph.initializers.items()}
    resolved = 0
    for node in graph.nodes:
        if node.op_type in _WINDOWS and node.attributes.get("auto_pad", "NOTSET") != "NOTSET":
            resolved += _resolve(node, shapes, graph)
        shape = output_shape(node, [shapes.get(name) for name in node.inputs], graph.initializers)
        if shape is not None:
            shapes[node.outputs[0]] = shape
    return resolved


def _resolve(node: Node, shapes: dict[str, Shape], graph: Graph) -> bool:
    kind, shape = str(node.attributes["auto_pad"]), shapes.get(node.inputs[0])
    weight = graph.initializers.get(node.inputs[1]) if node.op_type == "Conv" else None
    kernel = list(weight.dims[2:]) if weight is not None else node.ints("kernel_shape", [])
    if shape is None or not kernel:
        return False
    rank = len(kernel)
    strides, dilations = node.ints("strides", [1] * rank), node.ints("dilations", [1] * rank)
    begin, end = [0] * rank, [0] * rank
    if kind != "VALID":
        for axis in range(rank):
            places = -(-shape[2 + axis] // strides[axis])
            reach = (places - 1) * strides[axis] + dilations[axis] * (kernel[axis] - 1) + 1
            total = max(reach - shape[2 + axis], 0)
            begin[axis] = total // 2 if kind == "SAME_UPPER" else total - total // 2
            end[axis] = total - begin[axis]
    del node.attributes["auto_pad"]
    node.attributes["pads"] = begin + end
    return True
