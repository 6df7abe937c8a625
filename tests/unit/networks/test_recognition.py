"""A network is its graph: every planted change of one operator or one edge is found, and named by its layer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cmx4trt.errors import ModelError
from cmx4trt.ir.model import Graph, Model, Node, Tensor
from cmx4trt.networks import spec_of
from cmx4trt.networks.recognition import find_layers
from cmx4trt.networks.resnet50 import topology
from cmx4trt.networks.resnet50.onnx_import import network_from_classifier

SPEC = spec_of("resnet50")


def node(graph: Graph, name: str) -> Node:
    return next(node for node in graph.nodes if node.name == name)


def without(name: str) -> Callable[[Graph], None]:
    def edit(graph: Graph) -> None:
        gone = node(graph, name)
        graph.rename_reads(gone.outputs[0], gone.inputs[0])
        graph.nodes.remove(gone)

    return edit


def with_attribute(name: str, key: str, *values: int) -> Callable[[Graph], None]:
    def edit(graph: Graph) -> None:
        node(graph, name).attributes[key] = list(values)

    return edit


def grouped(graph: Graph) -> None:
    conv = node(graph, "res3b_branch2b")
    weight = graph.initializers[conv.inputs[1]].numpy()[:, :4].copy()
    graph.initializers[conv.inputs[1]] = Tensor.from_numpy(conv.inputs[1], weight)
    conv.attributes["group"] = 32


def shortcut_of_another_block(graph: Graph) -> None:
    node(graph, "res4c").inputs[1] = "res4a_relu"


def a_relu_too_many(graph: Graph) -> None:
    conv = node(graph, "res2c_branch2c")
    graph.nodes.insert(graph.nodes.index(conv) + 1, Node("Relu", [conv.outputs[0]], ["more"], {}, "more"))
    node(graph, "res2c").inputs[0] = "more"


def a_second_reader(graph: Graph) -> None:
    conv = node(graph, "res2c_branch2c")
    graph.nodes.insert(graph.nodes.index(conv), Node("Sigmoid", ["res2b_relu"], ["gate"], {}, "gate"))
    graph.nodes.insert(graph.nodes.index(conv) + 1, Node("Mul", ["res2c_branch2c", "gate"], ["scaled"], {}, "scaled"))
    node(graph, "res2c").inputs[0] = "scaled"


def swapped(graph: Graph) -> None:
    """Two blocks of one stage in the other order are the same graph: only their input tells."""
    first, second = node(graph, "res3b_branch2a_relu"), node(graph, "res3b_branch2b_relu")
    first.op_type, second.op_type = "Sigmoid", "Sigmoid"


MISTAKES: dict[str, tuple[Callable[[Graph], None], str]] = {
    "no relu": (
        without("res3a_branch2b_relu"),
        "found no ReLU after the 3x3 convolution of block 4 (res3a_branch2b), but Conv 'res3a_branch2c'",
    ),
    "no relu behind an addition": (
        without("res2b_relu"),
        "found no ReLU after the addition of block 2 (res2b), but Conv 'res2c_branch2a', Add 'res2c'",
    ),
    "2x2 pool": (
        with_attribute("pool1", "kernel_shape", 2, 2),
        "the max pool (pool1), MaxPool 'pool1' of the file, with a kernel of 2x2, need a kernel of 3x3",
    ),
    "stride": (with_attribute("res3a_branch2b", "strides", 1, 1), "with stride 1x1, need stride 2x2"),
    "padding": (
        with_attribute("res4b_branch2b", "pads", 1, 1, 0, 0),
        "with padding [1, 1, 0, 0], need [1, 1, 1, 1]",
    ),
    "dilation": (with_attribute("res5b_branch2b", "dilations", 2, 2), "with dilation 2x2, need dilation 1x1"),
    "groups": (
        grouped,
        "the 3x3 convolution of block 5 (res3b_branch2b), Conv 'res3b_branch2b' of the file, with 32 groups",
    ),
    "edge": (
        shortcut_of_another_block,
        "found the addition of block 10 (res4c), Add 'res4c' of the file, with the input",
    ),
    "relu too many": (
        a_relu_too_many,
        "found no addition after the last 1x1 convolution of block 3 (res2c_branch2c), but Relu",
    ),
    "reader": (
        a_second_reader,
        "found no addition after the last 1x1 convolution of block 3 (res2c_branch2c), but Mul 'scaled'",
    ),
    "activation": (swapped, "found no ReLU after the first 1x1 convolution of block 5 (res3b_branch2a), but Sigmoid"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_changed_layer_is_named(resnet50_model: Model, mistake: str) -> None:
    edit, sentence = MISTAKES[mistake]
    edit(resnet50_model.graph)
    with pytest.raises(ModelError) as caught:
        network_from_classifier(resnet50_model, SPEC)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "pads", "ceil"),
    [
        ("pool1", [0, 0, 1, 1], 0),
        ("pool1", [0, 0, 0, 0], 1),
        ("conv1", [2, 2, 3, 3], 0),
        ("res4a_branch2b", [0, 0, 1, 1], 0),
    ],
)
def test_the_paddings_of_other_frameworks_are_the_same_network(
    resnet50_model: Model, name: str, pads: list[int], ceil: int
) -> None:
    """TensorFlow's SAME at an even size, and Caffe's rounding up."""
    window = node(resnet50_model.graph, name)
    window.attributes["pads"] = pads
    if ceil:
        window.attributes["ceil_mode"] = ceil
    found = find_layers(network_from_classifier(resnet50_model, SPEC).model.graph, topology.layers(), SPEC)
    assert len(found) == 1 + len(topology.layers())


def test_every_layer_is_found_by_structure_alone(resnet50_model: Model) -> None:
    """The generator calls its nodes after the same model."""
    graph = network_from_classifier(resnet50_model, SPEC).model.graph
    found = find_layers(graph, topology.layers(), SPEC)
    assert {layer for layer, value in found.items() if value != layer} == {"image", "pool5"}
    assert len(found) == len([n for n in graph.nodes if n.op_type not in ("Flatten", "Gemm")]) + 1
