"""A RetinaNet is its graph: near misses are refused, and named by their layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cmx4trt.errors import ModelError
from cmx4trt.ir.model import Graph, Node
from cmx4trt.networks.retinanet import random_weights, topology
from cmx4trt.networks.retinanet.spec import DETECTOR


def test_the_network_of_mlperf_has_all_its_convolutions() -> None:
    """53 in the backbone (torchvision's resnext50_32x4d), 8 in the pyramid, 2 heads of 5 on 5 levels."""
    found = topology.layers(DETECTOR)
    assert len([layer for layer in found if layer.kind == "Conv"]) == 53 + 8 + 50
    grouped = [layer.window.groups for layer in found if layer.window and layer.window.groups > 1]
    assert grouped == [32] * 16
    assert len({layer.name for layer in found}) == len(found)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"groups": 1},
            r"the 3x3 convolution of block 1 \(res2a_branch2b\), Conv .* of the file, with 1 group, need 2 groups",
        ),
        (
            {"pyramid": 16},
            r"1x1 convolution of level 5 \(lateral5\), Conv .* with 16 output channels, need 8 output channels",
        ),
        ({"tower": 2}, r"convolution 2 of the class head on level 3 .*, need 27 output channels"),
        ({"blocks": (1, 2, 1, 1)}, r"convolution of block 3 \(res4a_branch1\), Conv .* of the file, with .* need"),
    ],
)
def test_another_backbone_is_named(toy_detector: Any, change: dict[str, Any], sentence: str) -> None:
    sizes = replace(toy_detector.topology, body=replace(toy_detector.body, **change))
    with pytest.raises(ModelError, match=sentence) as caught:
        toy_detector.network(random_weights.model_from_seed(1, sizes))
    assert "\n" not in str(caught.value)


def bypassed(graph: Graph, node: Node) -> None:
    graph.rename_reads(node.outputs[0], node.inputs[0])
    graph.nodes.remove(node)


def no_relu_before_level_7(graph: Graph) -> None:
    """The only ReLU that reads what a convolution of stride 2 on another such one made."""
    producers = graph.producers()
    for node in [n for n in graph.nodes if n.op_type == "Relu"]:
        reader = graph.consumers()[node.outputs[0]][0]
        if reader.op_type == "Conv" and reader.ints("strides", []) == [2, 2]:
            before = producers.get(node.inputs[0])
            if before is not None and before.op_type == "Conv" and before.ints("strides", []) == [2, 2]:
                bypassed(graph, node)
                return


def smooth_enlargement(graph: Graph) -> None:
    next(n for n in graph.nodes if n.op_type == "Resize").attributes["mode"] = "linear"


def relu_too_many(graph: Graph) -> None:
    resize = next(n for n in graph.nodes if n.op_type == "Resize")
    graph.nodes.insert(graph.nodes.index(resize), Node("Relu", [resize.inputs[0]], ["more"], {}, "more"))
    resize.inputs[0] = "more"


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (no_relu_before_level_7, r"no ReLU after the convolution that makes level 6 \(p6\), but"),
        (smooth_enlargement, r"the upsampling of level 5 .* with mode linear, need mode nearest"),
        (relu_too_many, r"no enlargement after the pyramid's 1x1 convolution of level 5"),
    ],
)
def test_a_changed_layer_is_named(toy_detector: Any, edit: Callable[[Graph], None], sentence: str) -> None:
    model = toy_detector.model()
    edit(model.graph)
    with pytest.raises(ModelError, match=sentence) as caught:
        toy_detector.network(model)
    assert "\n" not in str(caught.value)
