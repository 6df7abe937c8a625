"""Operators that ONNX Runtime's extended optimisation fuses, taken apart again (onnxruntime/docs/ContribOperators.md)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from cmx4trt.ir.model import Graph, Node, fresh_name

DOMAIN = "com.microsoft"
_PARTS = {"FusedConv": "Conv", "FusedGemm": "Gemm"}
_ADDEND = 3
"""FusedConv's input Z, added to the convolution's result before the activation."""


def split_fused(graph: Graph) -> int:
    """FusedConv and FusedGemm become Conv or Gemm, the addition and the activation; returns how many there were.

    An activation's parameters are dropped: only those without any (Relu) are layers of networks known here.
    """
    used = graph.names()
    nodes: list[Node] = []
    count = 0
    for node in graph.nodes:
        if node.domain == DOMAIN and node.op_type in _PARTS:
            nodes += _parts(node, used)
            count += 1
        else:
            nodes.append(node)
    graph.nodes = nodes
    return count


def _parts(node: Node, used: set[str]) -> Iterator[Node]:
    attributes = {key: value for key, value in node.attributes.items() if not key.startswith("activation")}
    activation = str(node.attributes.get("activation", ""))
    product = Node(_PARTS[node.op_type], node.inputs[:_ADDEND], list(node.outputs), attributes, node.name)
    steps = [product]
    if len(node.inputs) > _ADDEND and node.inputs[_ADDEND]:
        steps.append(Node("Add", ["", node.inputs[_ADDEND]], list(node.outputs)))
    if activation:
        steps.append(Node(activation, [""], list(node.outputs)))
    for before, step in pairwise(steps):
        before.outputs = [fresh_name(f"{node.outputs[0]}_{before.op_type.lower()}", used)]
        step.inputs[0] = before.outputs[0]
        step.name = fresh_name(f"{node.name or node.outputs[0]}_{step.op_type.lower()}", used)
    yield from steps
