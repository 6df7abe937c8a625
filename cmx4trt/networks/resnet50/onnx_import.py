"""ResNet-50 v1.5 from the files people have: the operators and edges of the topology, no more, no less."""

from __future__ import annotations

from cmx4trt.graph.network import CanonicalGraph
from cmx4trt.graph.spec import ModelSpec
from cmx4trt.ir.model import Graph, Model, Node
from cmx4trt.networks.base import wrong_model
from cmx4trt.networks.classification.onnx_import import ClassifierForm, import_classifier
from cmx4trt.networks.recognition import find_layers
from cmx4trt.networks.resnet50 import topology
from cmx4trt.networks.resnet50.spec import SPEC


def network_from_classifier(model: Model, spec: ModelSpec) -> CanonicalGraph:
    """The canonical graph of a ResNet-50 file. Edits ``model``. Raises ModelError on any other network.

    Ensures: input ``input`` [N, 3, 224, 224], output ``logits`` [N, K] with K in ``topology.HEAD_SIZES``.
    """
    form = ClassifierForm(
        topology.FEATURES, topology.HEAD_SIZES, topology.CONVOLUTIONS, topology.LAST_GRID, _check_body
    )
    return import_classifier(model, spec, form)


def _check_body(graph: Graph) -> None:
    """ResNet-50 v1.5, layer by layer. What other networks of its family differ in is said first."""
    convolutions = [node for node in graph.nodes if node.op_type == "Conv"]
    if len(convolutions) != topology.CONVOLUTIONS:
        raise wrong_model(SPEC, f"{len(convolutions)} convolutions", str(topology.CONVOLUTIONS))
    if _has_strides_of_version_1(graph, convolutions):
        found = "stride 2 in 1x1 convolutions (ResNet-50 v1)"
        raise wrong_model(SPEC, found, "stride 2 in the 3x3 ones (v1.5)")
    find_layers(graph, topology.layers(), SPEC)


def _has_strides_of_version_1(graph: Graph, convolutions: list[Node]) -> bool:
    strided = [node for node in convolutions if node.ints("strides", [1])[0] == 2]
    weights = [graph.initializers.get(node.inputs[1]) for node in strided]
    kernels = [weight.dims[-1] for weight in weights if weight is not None]
    return 3 not in kernels and kernels.count(1) == 2 * (len(topology.STAGES) - 1)
