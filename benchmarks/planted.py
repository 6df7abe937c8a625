"""Mistakes that a pass on graphs could make, planted in prepared graphs; and networks to plant them in. Used by mistakes.py."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cmx4trt.graph.judge.correspondence import computed_name
from cmx4trt.graph.precision import cast_tensor, floats_from_tensor
from cmx4trt.ir.model import DType, Graph, Model, Node, Tensor, fresh_name
from cmx4trt.networks.resnet50 import random_weights as resnet50
from cmx4trt.networks.retinanet import random_weights as retinanet
from cmx4trt.networks.retinanet.random_weights import Topology
from cmx4trt.networks.retinanet.spec import Body, DetectorSpec

Mistake = Callable[[Graph, random.Random], bool]
"""Edits a graph; False where there is no place for it."""


def _convolutions(graph: Graph, kernel: int | None = None) -> list[Node]:
    found = [node for node in graph.nodes if node.op_type == "Conv"]
    return [node for node in found if kernel is None or _weight(graph, node).dims[2] == kernel]


def _constant(graph: Graph, node: Node, place: int) -> tuple[Node, int]:
    """Where the floating-point constant behind an input is: the input itself, or the scale of int8 weights."""
    producer = graph.producers().get(node.inputs[place])
    return (producer, 1) if producer is not None and producer.op_type == "DequantizeLinear" else (node, place)


def _weight(graph: Graph, node: Node) -> Tensor:
    producer = graph.producers().get(node.inputs[1])
    return graph.initializers[producer.inputs[0] if producer is not None else node.inputs[1]]


def _change(graph: Graph, node: Node, place: int, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    """Give the node a constant of its own."""
    old = graph.initializers[node.inputs[place]]
    name = fresh_name(f"{old.name}_wrong", graph.names())
    if old.dtype is DType.INT8:
        graph.initializers[name] = Tensor.from_numpy(name, np.ascontiguousarray(edit(old.numpy())))
    else:
        wide = Tensor.from_numpy(name, np.ascontiguousarray(edit(floats_from_tensor(old)).astype(np.float32)))
        graph.initializers[name] = cast_tensor(wide, old.dtype, name)
    node.inputs[place] = name


def wrong_pool(graph: Graph, rng: random.Random) -> bool:
    node = next(node for node in graph.nodes if node.op_type == "MaxPool")
    node.attributes.update(kernel_shape=[2, 2], pads=[0, 0, 0, 0])
    return True


def missing_relu(graph: Graph, rng: random.Random) -> bool:
    node = rng.choice([node for node in graph.nodes if node.op_type == "Relu"])
    graph.rename_reads(node.outputs[0], node.inputs[0])
    graph.prune()
    return True


def missing_addition(graph: Graph, rng: random.Random) -> bool:
    node = rng.choice([n for n in graph.nodes if n.op_type == "Add" and not n.name.startswith("detect_")])
    graph.rename_reads(node.outputs[0], node.inputs[rng.randrange(2)])
    graph.prune()
    return True


def swapped_branches(graph: Graph, rng: random.Random) -> bool:
    """The shortcut and the last convolution of a block read each other's input."""
    nodes = _convolutions(graph)
    pairs = [
        (a, b)
        for i, a in enumerate(nodes)
        for b in nodes[i + 1 : i + 8]
        if a.inputs[0] != b.inputs[0]
        and _weight(graph, a).dims == _weight(graph, b).dims
        and a.attributes == b.attributes
        and a.attributes.get("strides", [1, 1]) == [1, 1]
        and a.inputs[1] != b.inputs[1]
    ]
    order = {name: place for place, node in enumerate(graph.nodes) for name in node.outputs}
    pairs = [(a, b) for a, b in pairs if order.get(b.inputs[0], -1) < graph.nodes.index(a)]
    if not pairs:
        return False
    first, second = rng.choice(pairs)
    first.inputs[0], second.inputs[0] = second.inputs[0], first.inputs[0]
    return True


def wrong_stride(graph: Graph, rng: random.Random) -> bool:
    """ResNet v1 in place of v1.5: the first convolution of a block moves two steps, not the second."""
    readers, producers = graph.consumers(), graph.producers()
    places = []
    for node in _convolutions(graph, 3):
        value = node.inputs[0]
        while (before := producers.get(value)) is not None and before.op_type not in ("Conv", "MaxPool", "Add"):
            value = before.inputs[0]
        if node.attributes.get("strides") != [2, 2] or before is None or before.op_type != "Conv":
            continue
        if before.attributes.get("strides", [1, 1]) == [1, 1] and len(readers[before.outputs[0]]) == 1:
            places.append((before, node))
    if not places:
        return False
    before, node = rng.choice(places)
    before.attributes["strides"], node.attributes["strides"] = [2, 2], [1, 1]
    return True


def wrong_padding(graph: Graph, rng: random.Random) -> bool:
    rng.choice(_convolutions(graph, 3)).attributes["pads"] = [0, 0, 2, 2]
    return True


def scale_doubled(graph: Graph, rng: random.Random) -> bool:
    node, place = _constant(graph, rng.choice(_convolutions(graph)), 1)
    _change(graph, node, place, lambda values: values * 2)
    return True


def permuted_channels(graph: Graph, rng: random.Random) -> bool:
    node = rng.choice([n for n in _convolutions(graph) if _weight(graph, n).dims[1] > 1])
    producer = graph.producers().get(node.inputs[1])
    owner, place = (producer, 0) if producer is not None else (node, 1)
    _change(graph, owner, place, lambda values: np.concatenate([values[:, 1:2], values[:, :1], values[:, 2:]], axis=1))
    return True


def bias_forgotten(graph: Graph, rng: random.Random) -> bool:
    nodes = [
        n
        for n in _convolutions(graph)
        if len(n.inputs) > 2 and floats_from_tensor(graph.initializers[n.inputs[2]]).any()
    ]
    if not nodes:
        return False
    rng.choice(nodes).inputs.pop()
    return True


def abs_for_relu(graph: Graph, rng: random.Random) -> bool:
    rng.choice([node for node in graph.nodes if node.op_type == "Relu"]).op_type = "Abs"
    return True


def class_offset(graph: Graph, rng: random.Random) -> bool:
    name = "class" if any(info.name == "class" for info in graph.outputs) else "labels"
    node = next(n for n in graph.nodes if name in n.outputs)
    node.outputs = [f"{name}_before" if output == name else output for output in node.outputs]
    graph.initializers["one_class"] = Tensor.from_numpy("one_class", np.array(1, np.int32))
    graph.nodes.append(Node("Add", [f"{name}_before", "one_class"], [name], {}, "one_class_more"))
    return True


def wrong_anchors(graph: Graph, rng: random.Random) -> bool:
    name = next((name for name in graph.initializers if name.startswith("detect_anchor_sizes")), None)
    if name is None:
        return False
    graph.initializers[name] = Tensor.from_numpy(name, np.ascontiguousarray(graph.initializers[name].numpy()[:, ::-1]))
    return True


def swapped_coordinates(graph: Graph, rng: random.Random) -> bool:
    node = next((n for n in graph.nodes if "boxes" in n.outputs), None)
    if node is None:
        return False
    node.outputs = ["boxes_before" if output == "boxes" else output for output in node.outputs]
    graph.initializers["yx"] = Tensor.from_numpy("yx", np.array([1, 0, 3, 2], np.int64))
    graph.nodes.append(Node("Gather", ["boxes_before", "yx"], ["boxes"], {"axis": 2}, "yx_boxes"))
    return True


def frozen_batch(graph: Graph, rng: random.Random) -> bool:
    """Every image of a batch gets the raw results of the first."""
    wanted = "logits" if any("logits" in n.outputs for n in graph.nodes) else "cls_0"
    name = computed_name(graph, wanted)
    place = next(i for i, n in enumerate(graph.nodes) if name in n.outputs)
    graph.nodes[place].outputs[0] = "all_images"
    for constant, values in (("batch_start", [0]), ("batch_end", [1])):
        graph.initializers[constant] = Tensor.from_numpy(constant, np.array(values, np.int64))
    graph.nodes[place + 1 : place + 1] = [
        Node("Slice", ["all_images", "batch_start", "batch_end", "batch_start"], ["first_image"], {}, "first_image"),
        Node("Shape", ["all_images"], ["batch_shape"], {}, "batch_shape"),
        Node("Expand", ["first_image", "batch_shape"], [name], {}, "frozen"),
    ]
    return True


MISTAKES: dict[str, Mistake] = {
    "2x2 max-pool": wrong_pool,
    "missing ReLU": missing_relu,
    "absolute value for ReLU": abs_for_relu,
    "missing addition": missing_addition,
    "swapped branches": swapped_branches,
    "stride in the wrong convolution": wrong_stride,
    "off-by-one padding": wrong_padding,
    "weights x2": scale_doubled,
    "two channels permuted": permuted_channels,
    "bias forgotten": bias_forgotten,
    "class offset": class_offset,
    "frozen batch": frozen_batch,
    "anchors turned": wrong_anchors,
    "box coordinates swapped": swapped_coordinates,
}


@dataclass(frozen=True, slots=True)
class Kind:
    """How a ResNet-50's weights are drawn: scales of the stem, of each block's last convolution, and of biases; the exponent
    makes tails heavy; ``normalized``: batch normalization follows each convolution."""

    title: str
    stem: float = 1.0
    branch: float = 1.0
    bias: float = 0.1
    power: float = 1.0
    normalized: bool = False


KINDS = (
    Kind("random"),
    Kind("TensorFlow-style, takes +-128", stem=1 / 60),
    Kind("small branches", branch=0.02),
    Kind("large branches", branch=1.6),
    Kind("heavy tails", power=1.7, branch=0.7),
    Kind("large biases", bias=2.0),
    Kind("batch normalization", normalized=True),
    Kind("batch normalization, takes +-128", stem=1 / 60, normalized=True),
)


def resnet50_of(kind: Kind, seed: int) -> Model:
    """A ResNet-50 of this kind."""
    model, rng = resnet50.model_from_seed(seed), np.random.default_rng(seed)
    graph = model.graph
    for node in [node for node in graph.nodes if node.op_type == "Conv"]:
        weight = graph.initializers[node.inputs[1]].numpy()
        bent = np.sign(weight) * np.abs(weight) ** np.float32(kind.power)
        bent *= weight.std() / bent.std()
        bent *= np.float32(kind.stem if node.name == "conv1" else kind.branch if node.name.endswith("2c") else 1.0)
        graph.initializers[node.inputs[1]] = Tensor.from_numpy(node.inputs[1], bent)
        bias = rng.standard_normal(len(weight)).astype(np.float32) * np.float32(kind.bias)
        graph.initializers[node.inputs[2]] = Tensor.from_numpy(node.inputs[2], bias)
        if kind.normalized:
            _normalize(graph, node, rng)
    return model


def _normalize(graph: Graph, node: Node, rng: np.random.Generator) -> None:
    """Batch normalization behind a convolution, which changes what it gives by up to a factor of 2."""
    channels = graph.initializers[node.inputs[1]].dims[0]
    names = [f"{node.name}_{part}" for part in ("gamma", "beta", "mean", "variance")]
    variance = rng.uniform(0.5, 2, channels)
    values = [np.sqrt(variance) * rng.uniform(0.7, 1.3, channels), *rng.normal(0, 0.2, (2, channels)), variance]
    for name, value in zip(names, values, strict=True):
        graph.initializers[name] = Tensor.from_numpy(name, value.astype(np.float32))
    result, node.outputs = node.outputs[0], [f"{node.name}_plain"]
    normal = Node("BatchNormalization", [node.outputs[0], *names], [result], {"epsilon": 0.0}, f"{node.name}_bn")
    graph.nodes.insert(graph.nodes.index(node) + 1, normal)


def small_detector(seed: int) -> tuple[Model, Topology]:
    """A RetinaNet with all of its structure and few channels."""
    detector = DetectorSpec(
        classes=2 + seed % 5, score_threshold=0.012, candidates=60, detections=50, nms_block=60, nms_iterations=8
    )
    body = Body(stem=8, blocks=(1, 1, 1, 1), width=8, groups=2, pyramid=8, tower=1 + seed % 3)
    topology = Topology(image_size=128, body=body, detector=detector)
    return retinanet.model_from_seed(seed, topology), topology
