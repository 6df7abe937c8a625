"""NVIDIA's names for ResNet-50, found by structure."""

from __future__ import annotations

import random

import pytest

from cmx4trt.graph.network import CanonicalGraph
from cmx4trt.ir.model import Model, Node
from cmx4trt.networks.resnet50.nvidia_names import nvidia_names
from cmx4trt.networks.resnet50.topology import block_shapes
from cmx4trt.quantize.placement import place

NODES = 119
"""53 convolutions, 49 Relu, 16 additions and the max pool."""


def renamed(model: Model) -> Model:
    """The same network with every value called by a random number."""
    copy = model.copy()
    graph = copy.graph
    numbers = random.Random(3)
    for name in graph.names() - {info.name for info in graph.inputs + graph.outputs}:
        graph.rename_value(name, str(numbers.randrange(10**12)))
    return copy


def test_every_node_has_its_name(resnet50: CanonicalGraph) -> None:
    names = nvidia_names(resnet50.model.graph)
    nodes = {n for n in names.values() if n.endswith("_out_0")} - {"squeeze_replaced_out_0"}
    assert len(nodes) == NODES
    assert {"scale_conv1_out_0", "conv1_relu_out_0", "pool1_out_0", "res5c_relu_out_0"} <= nodes
    for block in block_shapes():
        branches = {f"{block.name}_branch2{x}{r}_out_0" for x in "abc" for r in ("", "_relu")}
        expected = {f"{block.name}_out_0", f"{block.name}_relu_out_0"} | branches - {
            f"{block.name}_branch2c_relu_out_0"
        }
        assert expected <= nodes
        assert (f"{block.name}_branch1_out_0" in nodes) == (block.shortcut is not None)


def test_names_follow_the_structure_alone(resnet50: CanonicalGraph) -> None:
    graph = resnet50.model.graph
    plain = nvidia_names(graph)
    # The generator calls its nodes after the same model, so that the names can be held against each other.
    for tensor, name in plain.items():
        if tensor not in (graph.inputs[0].name, "conv1") and name != "squeeze_replaced_out_0":
            assert name == f"{tensor}_out_0"
    assert sorted(nvidia_names(renamed(resnet50.model).graph).values()) == sorted(plain.values())


def test_names_cover_all_that_is_quantized(resnet50: CanonicalGraph) -> None:
    names = nvidia_names(resnet50.model.graph)
    assert set(place(resnet50.model.graph).activations) <= names.keys()


def test_other_networks_have_none(residual: Model, resnet50: CanonicalGraph) -> None:
    assert nvidia_names(residual.graph) == {}
    extra = resnet50.model.copy()
    extra.graph.nodes.append(Node("Relu", ["res3a_relu"], ["more"]))
    extra.graph.nodes.append(Node("Conv", ["res3a_relu", "res3b_branch2a_weight"], ["another"]))
    assert nvidia_names(extra.graph) == {}


@pytest.mark.parametrize("block", ["res2b", "res5c"])
def test_a_missing_block_is_noticed(resnet50: CanonicalGraph, block: str) -> None:
    shorter = resnet50.model.copy()
    graph = shorter.graph
    before = next(n for n in graph.nodes if n.outputs[0] == f"{block}_branch2a").inputs[0]
    graph.rename_reads(f"{block}_relu", before)
    graph.prune()
    assert nvidia_names(graph) == {}
