"""NVIDIA's tensor names for ResNet-50 -> the tensors of our graph, found by structure.

NVIDIA's MLPerf code renames the MLPerf file's nodes after the original Caffe model (conv1, res2a_branch2a, res2a_branch1,
res2a, res2a_relu, …) before it calibrates, and calls each node's result ``<node>_out_0``; batch norm of the stem is
``scale_conv1``, the pooled features ``squeeze_replaced``, the input ``input_tensor_0``. Whatever an exporter called them,
the same values sit at the same places of the network.
"""

from __future__ import annotations

from cmx4trt.ir.model import Graph, Node
from cmx4trt.networks.resnet50.topology import STAGES

INPUT_NAME = "input_tensor_0"
POOLED_NAME = "squeeze_replaced_out_0"


def nvidia_names(graph: Graph) -> dict[str, str]:
    """Tensor of ``graph`` -> its name in NVIDIA's caches; empty where the graph is not ResNet-50.

    Requires batch normalisation folded and padding inside the convolutions.
    """
    walk = _Walk(graph)
    try:
        walk.run()
    except _OtherNetworkError:
        return {}
    return walk.names


class _OtherNetworkError(Exception):
    """The graph leaves the structure of ResNet-50."""


class _Walk:
    """Follows the network from its input, naming what it passes."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.names: dict[str, str] = {}
        self.readers = graph.consumers()

    def run(self) -> None:
        value = self.graph.inputs[0].name
        self.names[value] = INPUT_NAME
        value = self._step(value, "Conv", "conv1", also="scale_conv1")
        value = self._step(value, "Relu", "conv1_relu")
        value = self._step(value, "MaxPool", "pool1")
        for stage, (blocks, _) in enumerate(STAGES, start=2):
            for index in range(blocks):
                value = self._block(value, f"res{stage}{chr(ord('a') + index)}", has_conv=index == 0)
        pooled = self._only(value, "GlobalAveragePool").outputs[0]
        self.names[pooled] = POOLED_NAME
        for node in self.readers.get(pooled, ()):
            if node.op_type in ("Flatten", "Reshape", "Squeeze"):
                self.names[node.outputs[0]] = POOLED_NAME

    def _step(self, value: str, op_type: str, name: str, also: str | None = None) -> str:
        result = self._only(value, op_type).outputs[0]
        self.names[result] = f"{also or name}_out_0"
        return result

    def _block(self, value: str, block: str, has_conv: bool) -> str:
        convs = [node for node in self.readers.get(value, ()) if node.op_type == "Conv"]
        ends = {self._after(node.outputs[0]): node for node in convs}
        if set(ends) != ({"Relu", "Add"} if has_conv else {"Relu"}) or len(convs) != len(ends):
            raise _OtherNetworkError
        branch = ends["Relu"].outputs[0]
        self.names[branch] = f"{block}_branch2a_out_0"
        branch = self._step(branch, "Relu", f"{block}_branch2a_relu")
        branch = self._step(branch, "Conv", f"{block}_branch2b")
        branch = self._step(branch, "Relu", f"{block}_branch2b_relu")
        branch = self._step(branch, "Conv", f"{block}_branch2c")
        shortcut = value
        if has_conv:
            shortcut = ends["Add"].outputs[0]
            self.names[shortcut] = f"{block}_branch1_out_0"
        add = self._only(branch, "Add")
        if set(add.inputs) != {branch, shortcut}:
            raise _OtherNetworkError
        self.names[add.outputs[0]] = f"{block}_out_0"
        return self._step(add.outputs[0], "Relu", f"{block}_relu")

    def _only(self, value: str, op_type: str) -> Node:
        """The single reader of ``value``, which must be of ``op_type``."""
        found = self.readers.get(value, [])
        if len(found) != 1 or found[0].op_type != op_type:
            raise _OtherNetworkError
        return found[0]

    def _after(self, value: str) -> str:
        found = self.readers.get(value, [])
        return found[0].op_type if len(found) == 1 else ""
