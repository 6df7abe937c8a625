"""NVIDIA's tensor names for ResNet-50 -> the tensors of our graph, found by structure.

NVIDIA's MLPerf code renames the MLPerf file's nodes after the original Caffe model (conv1, res2a_branch2a, res2a_branch1,
res2a, res2a_relu, …) before it calibrates, and calls each node's result ``<node>_out_0``; batch norm of the stem is
``scale_conv1``, the pooled features ``squeeze_replaced``, the input ``input_tensor_0``. Whatever an exporter called them,
the same values sit at the same places of the network.
"""

from __future__ import annotations

from cmx4trt.errors import ModelError
from cmx4trt.ir.model import Graph
from cmx4trt.networks.recognition import IMAGE, find_layers
from cmx4trt.networks.resnet50 import topology
from cmx4trt.networks.resnet50.spec import SPEC

_OTHER_NAMES = {
    IMAGE: "input_tensor_0",
    "conv1": "scale_conv1_out_0",
    topology.POOLED: "squeeze_replaced_out_0",
}
_RESHAPING = ("Flatten", "Reshape", "Squeeze")


def nvidia_names(graph: Graph) -> dict[str, str]:
    """Tensor of ``graph`` -> its name in NVIDIA's caches; empty where the graph is not ResNet-50.

    Requires batch normalization folded and padding inside the convolutions.
    """
    try:
        found = find_layers(graph, topology.layers(), SPEC)
    except ModelError:
        return {}
    names = {value: _OTHER_NAMES.get(layer, f"{layer}_out_0") for layer, value in found.items()}
    pooled = found[topology.POOLED]
    flat = [node for node in graph.consumers().get(pooled, ()) if node.op_type in _RESHAPING]
    return names | {node.outputs[0]: names[pooled] for node in flat}
