"""ResNet-50 v1.5 from the files people have: the convolutions and additions of the topology, no more, no less."""

from __future__ import annotations

from collections import Counter

from cmx4trt.errors import ModelError
from cmx4trt.graph.network import CanonicalGraph
from cmx4trt.graph.precision import FLOATS
from cmx4trt.graph.spec import ModelSpec
from cmx4trt.ir.model import Graph, Model, Node
from cmx4trt.networks.base import wrong_model
from cmx4trt.networks.classification.onnx_import import ClassifierForm, import_classifier
from cmx4trt.networks.resnet50 import topology
from cmx4trt.networks.resnet50.topology import ConvShape


def network_from_classifier(model: Model, spec: ModelSpec) -> CanonicalGraph:
    """The canonical graph of a ResNet-50 file. Edits ``model``. Raises ModelError on any other network.

    Ensures: input ``input`` [N, 3, 224, 224], output ``logits`` [N, K] with K in (1000, 1001).
    """
    convolutions = topology.expected_convolutions().total()
    return import_classifier(
        model, spec, ClassifierForm(topology.FEATURES, topology.CLASSES, convolutions, topology.LAST_GRID, _check_body)
    )


def _wrong(found: str, need: str) -> ModelError:
    return wrong_model(topology.SPEC, found, need)


def _check_body(graph: Graph) -> None:
    """The convolutions and additions of ResNet-50 v1.5, no more, no less."""
    operators = Counter(node.op_type for node in graph.nodes)
    found = Counter(_conv_shape(graph, node) for node in graph.nodes if node.op_type == "Conv")
    expected = topology.expected_convolutions()
    if found != expected:
        raise _wrong(*_describe_difference(found, expected))
    if operators["Add"] != topology.RESIDUAL_ADDS or operators["MaxPool"] != 1:
        found_text = f"{operators['Add']} additions and {operators['MaxPool']} max-poolings"
        raise _wrong(found_text, f"{topology.RESIDUAL_ADDS} and 1")


def _describe_difference(found: Counter[ConvShape], expected: Counter[ConvShape]) -> tuple[str, str]:
    if found.total() != expected.total():
        return f"{found.total()} convolutions", str(expected.total())
    strided = [shape for shape in found if shape.stride == 2 and shape.kernel == 1 and shape.out_channels < 1024]
    if strided and not [s for s in found if s.stride == 2 and s.kernel == 3]:
        return "stride 2 in 1x1 convolutions (ResNet-50 v1)", "stride 2 in the 3x3 ones (v1.5)"
    extra, missing = found - expected, expected - found
    return f"the convolution {min(map(str, extra))}", f"{min(map(str, missing))} in its place"


def _conv_shape(graph: Graph, node: Node) -> ConvShape:
    weight = graph.initializers.get(node.inputs[1])
    if weight is None or len(weight.dims) != 4:
        raise _wrong(f"{node.label()} without a constant 4-D weight", "constant weights")
    if node.attributes.get("group", 1) != 1 or node.ints("dilations", [1, 1]) != [1, 1]:
        raise _wrong(f"{node.label()} with groups or dilation", "plain convolutions")
    if weight.dtype not in FLOATS:
        raise _wrong(f"{node.label()} with {weight.dtype.name.lower()} weights", "floating-point weights")
    strides = node.ints("strides", [1, 1])
    return ConvShape(weight.dims[0], weight.dims[1], weight.dims[2], strides[0])
