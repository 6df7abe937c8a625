"""Heads are found by structure, whatever is called what; anything else is refused in one sentence."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cmx4trt.errors import ModelError
from cmx4trt.graph.constants import share_equal_constants
from cmx4trt.ir.model import DType, Graph, Model, Node, Tensor, ValueInfo
from cmx4trt.networks.resnet50 import random_weights
from cmx4trt.networks.retinanet.heads import find_heads

Edit = Callable[[Graph], None]


def convolutions(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.op_type == "Conv"]


def head_nodes(graph: Graph, channels: int) -> list[Node]:
    return [node for node in convolutions(graph) if graph.initializers[node.inputs[1]].dims[0] == channels]


def test_finds_both_heads_on_all_levels(toy_detector: Any) -> None:
    graph = toy_detector.model().graph
    heads = find_heads(graph, toy_detector.spec)
    assert list(heads.classes) == head_nodes(graph, 27)
    assert list(heads.boxes) == head_nodes(graph, 36)
    assert heads.image == convolutions(graph)[0].inputs[0]


def test_head_with_as_many_channels_as_boxes_is_told_apart(toy_detector: Any) -> None:
    from dataclasses import replace

    from cmx4trt.networks.retinanet.random_weights import model_from_seed

    topology = replace(toy_detector.topology, detector=replace(toy_detector.detector, classes=4))
    graph = model_from_seed(0, topology).graph
    heads = find_heads(graph, topology.spec())
    first_scored = next(node for node in graph.nodes if node.op_type == "Sigmoid")
    producers = graph.producers()
    node = first_scored
    while node.op_type != "Conv":
        node = producers[node.inputs[0]]
    assert node in heads.classes
    assert node not in heads.boxes


def test_weights_written_once_per_use_are_shared_again(toy_detector: Any) -> None:
    graph = toy_detector.model().graph
    generator = random.Random(3)
    copies = 0
    for node in convolutions(graph):
        for index in (1, 2):
            tensor = graph.initializers[node.inputs[index]]
            name = f"copy{generator.random()}"
            graph.initializers[name] = Tensor(name, tensor.dtype, tensor.dims, bytes(tensor.data))
            node.inputs[index] = name
            copies += 1
    graph.prune()
    with pytest.raises(ModelError, match="with shared weights"):
        find_heads(graph, toy_detector.spec)
    assert share_equal_constants(graph) > 20
    heads = find_heads(graph, toy_detector.spec)
    assert len({node.inputs[1] for node in heads.classes}) == 1


def drop_sigmoid(graph: Graph) -> None:
    for node in graph.nodes:
        if node.op_type == "Sigmoid":
            node.op_type = "Tanh"


def add_sigmoid_to_boxes(graph: Graph) -> None:
    for node in head_nodes(graph, 36):
        reader = graph.consumers()[node.outputs[0]][0]
        graph.nodes.insert(graph.nodes.index(reader), Node("Sigmoid", [node.outputs[0]], [f"{node.outputs[0]}_s"]))
        reader.inputs[0] = f"{node.outputs[0]}_s"


def halve_weights(graph: Graph) -> None:
    name = convolutions(graph)[3].inputs[1]
    graph.initializers[name] = Tensor.from_numpy(name, graph.initializers[name].numpy().astype(np.float16))


def compute_weights(graph: Graph) -> None:
    node = convolutions(graph)[3]
    graph.nodes.insert(0, Node("Abs", [node.inputs[1]], ["computed"]))
    node.inputs[1] = "computed"


def half_a_class(graph: Graph) -> None:
    node = head_nodes(graph, 27)[0]
    weight, bias = (graph.initializers[name].numpy() for name in node.inputs[1:3])
    for name, value in zip(node.inputs[1:3], (weight, bias), strict=True):
        graph.initializers[name] = Tensor.from_numpy(name, np.concatenate([value, value[:1]]))


def grey_images(graph: Graph) -> None:
    node = convolutions(graph)[0]
    weight = graph.initializers[node.inputs[1]].numpy()
    graph.initializers[node.inputs[1]] = Tensor.from_numpy(node.inputs[1], weight[:, :1])


def drop_convolutions(graph: Graph) -> None:
    graph.nodes = [node for node in graph.nodes if node.op_type != "Conv"]


WRONG: dict[str, tuple[Edit, str]] = {
    "no Sigmoid": (drop_sigmoid, "found no Sigmoid after either head, need one after the class head"),
    "two Sigmoids": (add_sigmoid_to_boxes, "found a Sigmoid after both heads"),
    "float16": (halve_weights, "with float16 weights, need constant float32 weights"),
    "computed": (compute_weights, "with computed weights, need constant float32 weights"),
    "classes": (
        half_a_class,
        "found 9 anchors per location with 3.11111 classes, need 9 with a whole number of classes",
    ),
    "grey": (grey_images, r"1 first convolutions \(input channels: 1\), need one that reads 3 channels"),
    "none": (drop_convolutions, "found no convolution"),
}


@pytest.mark.parametrize("case", WRONG)
def test_refuses(toy_detector: Any, case: str) -> None:
    edit, message = WRONG[case]
    graph = toy_detector.model().graph
    edit(graph)
    with pytest.raises(ModelError, match=message) as caught:
        find_heads(graph, toy_detector.spec)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("the model is not RetinaNet: found ")


def test_refuses_a_classifier(toy_detector: Any) -> None:
    graph = random_weights.model_from_seed(0).graph
    with pytest.raises(
        ModelError, match=r"last convolutions in 1 groups with shared weights \(sizes: 1\), need two heads of 5"
    ):
        find_heads(graph, toy_detector.spec)


def ssd_like() -> Model:
    """Six grids, on each a class and a box convolution of its own, as SSD has them."""
    graph = Graph("ssd", [], {}, [ValueInfo("images", DType.FLOAT, (1, 3, 128, 128))], [])
    value, channels = "images", 3
    for level in range(6):
        weights = {"body": (8, channels), "cls": (27, 8), "box": (36, 8)}
        for seed, (kind, (outputs, inputs)) in enumerate(weights.items()):
            array = np.random.default_rng([level, seed]).random((outputs, inputs, 3, 3), dtype=np.float32)
            graph.initializers[f"{kind}{level}"] = Tensor.from_numpy(f"{kind}{level}", array)
        attributes = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
        graph.nodes.append(Node("Conv", [value, f"body{level}"], [f"feature{level}"], attributes))
        value, channels = f"feature{level}", 8
        for kind in ("cls", "box"):
            graph.nodes.append(Node("Conv", [value, f"{kind}{level}"], [f"{kind}_out{level}"], {"pads": [1, 1, 1, 1]}))
        graph.nodes.append(Node("Sigmoid", [f"cls_out{level}"], [f"scores{level}"]))
        graph.outputs.append(ValueInfo(f"scores{level}", DType.FLOAT, None))
        graph.outputs.append(ValueInfo(f"box_out{level}", DType.FLOAT, None))
    return Model(graph, {"": 17}, 8)


def test_refuses_an_ssd(toy_detector: Any) -> None:
    with pytest.raises(ModelError, match="last convolutions in 12 groups with shared weights") as caught:
        find_heads(ssd_like().graph, toy_detector.spec)
    assert "\n" not in str(caught.value)
