"""From a file to ten head tensors: whatever the file's names, folding and batch, the network computes the same."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from cmx4trt.errors import ModelError
from cmx4trt.graph.network import CanonicalGraph
from cmx4trt.ir.model import Graph, Model, Node, Tensor, ValueInfo
from cmx4trt.ir.onnx_file import decode_model, encode_model
from cmx4trt.networks import spec_of
from cmx4trt.networks.retinanet.details import Detector
from cmx4trt.networks.retinanet.random_weights import anchor_table
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

HEADS = [f"{kind}_{level}" for kind in ("cls", "box") for level in range(5)]
GRIDS = [16, 8, 4, 2, 1]
BATCH_NORM_TOLERANCE = 2e-5
"""Folding rounds the weights of some twenty convolutions once more; heads are of unit size."""


def run_heads(network: CanonicalGraph, images: np.ndarray) -> dict[str, np.ndarray]:
    message = encode_model(network.model, None).message
    onnx.checker.check_model(onnx.load_model_from_string(message), full_check=True)
    return OnnxRuntimeSession.from_bytes(message).run({"input": images})


def images(count: int) -> np.ndarray:
    return np.random.default_rng(2).random((count, 3, 128, 128), dtype=np.float32)


def rename_everything(graph: Graph) -> None:
    """Every value and node gets a random name."""
    generator = random.Random(9)
    names: dict[str, str] = {"": ""}

    def renamed(name: str) -> str:
        return names.setdefault(name, f"v{generator.getrandbits(64)}")

    for node in graph.nodes:
        node.inputs, node.outputs = list(map(renamed, node.inputs)), list(map(renamed, node.outputs))
        node.name = f"n{generator.getrandbits(64)}"
    graph.initializers = {
        renamed(name): Tensor(renamed(name), t.dtype, t.dims, t.data) for name, t in graph.initializers.items()
    }
    for info in (*graph.inputs, *graph.outputs):
        info.name = renamed(info.name)


def constants_to_nodes(graph: Graph) -> None:
    """Small constants become Constant nodes behind an Identity each, as exporters write them."""
    small = [t for t in graph.initializers.values() if t.size < 100]
    for tensor in small:
        del graph.initializers[tensor.name]
    made = []
    for tensor in small:
        made.append(
            Node("Constant", [], [f"{tensor.name}_c"], {"value": Tensor("", tensor.dtype, tensor.dims, tensor.data)})
        )
        made.append(Node("Identity", [f"{tensor.name}_c"], [tensor.name]))
    graph.nodes = made + graph.nodes


def unfold_batch_norm(graph: Graph) -> None:
    """Body convolutions get frozen batch norm whose factors the file computes: Mul, Add of Reshape of constants."""
    generator = np.random.default_rng(4)
    nodes = []
    convolutions = [node for node in graph.nodes if node.op_type == "Conv"][:10]
    for node in graph.nodes:
        nodes.append(node)
        if node not in convolutions:
            continue
        channels = graph.initializers[node.inputs[1]].dims[0]
        result, node.outputs = node.outputs[0], [f"{node.name}_raw"]
        for kind, op, before in (("scale", "Mul", f"{node.name}_raw"), ("shift", "Add", f"{node.name}_scaled")):
            name = f"{node.name}_{kind}"
            graph.initializers[name] = Tensor.from_numpy(name, generator.uniform(0.5, 1.5, channels).astype(np.float32))
            graph.initializers.setdefault("shape", Tensor.from_numpy("shape", np.array([1, -1, 1, 1], np.int64)))
            nodes.append(Node("Reshape", [name, "shape"], [f"{name}_4d"]))
            nodes.append(Node(op, [before, f"{name}_4d"], [result if kind == "shift" else f"{node.name}_scaled"]))
    graph.nodes = nodes


def sizes_from_shapes(graph: Graph) -> None:
    """Resize gets computed sizes: batch and channels of its input, height and width of the value it is added to."""
    generator = iter(range(100))
    for node in [n for n in graph.nodes if n.op_type == "Resize"]:
        add = graph.consumers()[node.outputs[0]][0]
        other = next(name for name in add.inputs if name != node.outputs[0])
        k = next(generator)
        for name, values in (("zero", [0]), ("two", [2]), ("four", [4])):
            graph.initializers[name] = Tensor.from_numpy(name, np.array(values, np.int64))
        graph.initializers.pop(node.inputs[2], None)
        made = [
            Node("Shape", [node.inputs[0]], [f"a{k}"]),
            Node("Slice", [f"a{k}", "zero", "two"], [f"b{k}"]),
            Node("Shape", [other], [f"c{k}"]),
            Node("Slice", [f"c{k}", "two", "four"], [f"d{k}"]),
            Node("Concat", [f"b{k}", f"d{k}"], [f"e{k}"], {"axis": 0}),
        ]
        node.inputs = [node.inputs[0], "", "", f"e{k}"]
        graph.nodes = graph.nodes[: graph.nodes.index(node)] + made + graph.nodes[graph.nodes.index(node) :]


def computed_padding(graph: Graph) -> None:
    """No padding, its amounts the product of integer constants, as in files exported without folding."""
    for name, values in (("amounts", [0] * 8), ("factor", [2])):
        graph.initializers[name] = Tensor.from_numpy(name, np.array(values, np.int64))
    div = graph.nodes[1]
    result, div.outputs[0] = div.outputs[0], "normalised"
    pad = Node("Pad", ["normalised", "doubled"], [result], {"mode": "constant"})
    graph.nodes[2:2] = [Node("Mul", ["amounts", "factor"], ["doubled"]), pad]


def older_opset(model: Model) -> None:
    """Opset 11 in what the graph between images and heads uses: Resize needs a roi."""
    model.opsets[""] = 13
    model.graph.initializers["roi"] = Tensor.from_numpy("roi", np.zeros(0, np.float32))
    for node in model.graph.nodes:
        if node.op_type == "Resize":
            node.inputs[1] = "roi"


EDITS: dict[str, Callable[[Model], None]] = {
    "as it is": lambda model: None,
    "names": lambda model: rename_everything(model.graph),
    "constants as nodes": lambda model: constants_to_nodes(model.graph),
    "computed sizes": lambda model: sizes_from_shapes(model.graph),
    "computed padding": lambda model: computed_padding(model.graph),
    "older opset": older_opset,
}


@pytest.fixture(scope="module")
def expected(toy_detector: Any) -> dict[str, np.ndarray]:
    """The heads of the file itself, image by image."""
    from cmx4trt.ir.model import DType

    model = toy_detector.model()
    network = toy_detector.network(toy_detector.model())
    names = network.details.file_heads
    model.graph.outputs = [ValueInfo(name, DType.FLOAT, None) for name in names]
    model.graph.prune()
    session = OnnxRuntimeSession.from_graph(encode_model(model))
    rows = [session.run({"images": image[None]}) for image in images(2)]
    order = [f"{kind}_{level}" for level in range(5) for kind in ("cls", "box")]
    return {head: np.concatenate([row[name] for row in rows]) for head, name in zip(order, names, strict=True)}


@pytest.mark.parametrize("edit", EDITS)
def test_heads_are_those_of_the_file(toy_detector: Any, expected: dict[str, np.ndarray], edit: str) -> None:
    model = toy_detector.model()
    EDITS[edit](model)
    network = toy_detector.network(decode_model(toy_detector.message(model)), input_range="0-1")
    found = run_heads(network, images(2))
    assert list(found) == HEADS
    for name in HEADS:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=2e-6, err_msg=name)


def test_frozen_batch_norm_with_computed_factors_is_folded(toy_detector: Any) -> None:
    model = toy_detector.model()
    unfold_batch_norm(model.graph)
    copy = decode_model(toy_detector.message(model))
    network = toy_detector.network(model, input_range="0-1")
    assert network.notes["batch_norm_folded"] == "20"
    assert network.notes["constants_evaluated"] == "20"
    operators = {node.op_type for node in network.model.graph.nodes}
    assert operators == {"Conv", "Relu", "Add", "MaxPool", "Resize", "Sub", "Div"}
    from cmx4trt.ir.model import DType

    copy.graph.outputs = [ValueInfo(name, DType.FLOAT, None) for name in network.details.file_heads]
    copy.graph.prune()
    file_heads = OnnxRuntimeSession.from_graph(encode_model(copy)).run({"images": images(1)})
    found = run_heads(network, images(1))
    order = [f"{kind}_{level}" for level in range(5) for kind in ("cls", "box")]
    for head, name in zip(order, network.details.file_heads, strict=True):
        scale = np.abs(file_heads[name]).max()
        np.testing.assert_allclose(found[head], file_heads[name], rtol=0, atol=BATCH_NORM_TOLERANCE * scale)


def test_details_describe_the_file(toy_detector: Any) -> None:
    network = toy_detector.network(toy_detector.model())
    detector = network.details
    assert isinstance(detector, Detector)
    assert [(level.height, level.width) for level in detector.levels] == [(grid, grid) for grid in GRIDS]
    for number, level in enumerate(detector.levels):
        table = anchor_table(number, GRIDS[number], 128).reshape(-1, 9, 4)
        np.testing.assert_array_equal(level.anchors.reshape(9, -1, 4), table.transpose(1, 0, 2))
    np.testing.assert_array_equal(np.float32(detector.normalization.mean), np.float32([0.485, 0.456, 0.406]))
    np.testing.assert_array_equal(np.float32(detector.normalization.std), np.float32([0.229, 0.224, 0.225]))
    assert detector.file_results == ("boxes", "scores", "labels")
    shapes = {info.name: info.dims for info in network.model.graph.outputs}
    assert shapes == {f"cls_{i}": ("N", 27, g, g) for i, g in enumerate(GRIDS)} | {
        f"box_{i}": ("N", 36, g, g) for i, g in enumerate(GRIDS)
    }


def test_batches_give_what_single_images_give(toy_detector: Any) -> None:
    network = toy_detector.network(toy_detector.model())
    batch = images(3)
    together = run_heads(network, batch)
    for index in range(3):
        alone = run_heads(network, batch[index : index + 1])
        for name in HEADS:
            np.testing.assert_array_equal(together[name][index], alone[name][0])


def test_normalised_input_leaves_the_normalisation_to_the_caller(toy_detector: Any) -> None:
    inside = run_heads(toy_detector.network(toy_detector.model(), input_range="0-1"), images(1))
    detector = toy_detector.network(toy_detector.model()).details
    mean, std = (np.float32(v).reshape(1, 3, 1, 1) for v in (detector.normalization.mean, detector.normalization.std))
    outside = run_heads(toy_detector.network(toy_detector.model()), (images(1) - mean) / std)
    for name in HEADS:
        np.testing.assert_array_equal(inside[name], outside[name])


def test_names_that_the_engine_uses_give_way(toy_detector: Any, expected: dict[str, np.ndarray]) -> None:
    model = toy_detector.model()
    renaming = {"Relu_5": "cls_0", "Relu_10": "input", "Add_16": "box_3"}
    values = [node.outputs[0] for node in model.graph.nodes]
    relus = [value for value in values if value.startswith("Relu")][:3]
    for old, new in zip(relus, renaming.values(), strict=True):
        for node in model.graph.nodes:
            node.inputs = [new if name == old else name for name in node.inputs]
            node.outputs = [new if name == old else name for name in node.outputs]
            node.name = new if node.outputs[0] == new else node.name
    found = run_heads(toy_detector.network(model, input_range="0-1"), images(2))
    for name in HEADS:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=2e-6)


def no_normalisation(graph: Graph) -> None:
    sub, div = graph.nodes[:2]
    graph.nodes = graph.nodes[2:]
    assert (sub.op_type, div.op_type) == ("Sub", "Div")
    graph.rename_reads(div.outputs[0], "images")


def test_a_file_without_normalisation(toy_detector: Any) -> None:
    model = toy_detector.model()
    no_normalisation(model.graph)
    assert toy_detector.network(model).details.normalization.is_identity
    model = toy_detector.model()
    no_normalisation(model.graph)
    with pytest.raises(ModelError, match="found no normalization in the file, need one to keep for --input_range=0-1"):
        toy_detector.network(model, input_range="0-1")


def other_operator(graph: Graph) -> None:
    next(node for node in graph.nodes if node.op_type == "MaxPool").op_type = "LpPool"


def uneven_resize(graph: Graph) -> None:
    node = next(node for node in graph.nodes if node.op_type == "Resize")
    graph.initializers[node.inputs[2]] = Tensor.from_numpy(node.inputs[2], np.float32([1, 1, 1.5, 1.5]))


def squared_images(graph: Graph) -> None:
    graph.nodes[1].op_type = "Pow"


def resized_images(graph: Graph) -> None:
    graph.nodes.insert(0, Node("AveragePool", ["images"], ["smaller"], {"kernel_shape": [2, 2], "strides": [2, 2]}))
    graph.nodes[1].inputs[0] = "smaller"


def no_anchors(graph: Graph) -> None:
    for tensor in graph.initializers.values():
        if len(tensor.dims) == 2 and tensor.dims[1] == 4:
            tensor.data = bytes(len(tensor.data))


def transposed_anchors(graph: Graph) -> None:
    for tensor in list(graph.initializers.values()):
        if len(tensor.dims) == 2 and tensor.dims[1] == 4 and len(tensor.data) > 9 * 16:
            table = tensor.numpy().reshape(-1, 9, 4).transpose(1, 0, 2).reshape(-1, 4)
            graph.initializers[tensor.name] = Tensor.from_numpy(tensor.name, np.ascontiguousarray(table))


WRONG: dict[str, tuple[Callable[[Graph], None], str]] = {
    "operator": (other_operator, "cannot follow LpPool .* only Add, .* are expected between the image and the heads"),
    "resize": (uneven_resize, r"it resizes \[4, 4\] to \[6, 6\], expected whole multiples"),
    "squared": (squared_images, r"the preprocessing in RetinaNet is not \(x - mean\) / std|does not see the image"),
    "resized": (resized_images, "found images resized from"),
    "no anchors": (no_anchors, "found constant box tables of none rows, need anchors: 3069 rows"),
    "transposed": (transposed_anchors, "anchors whose centers lie .* pixels apart at one position"),
}


@pytest.mark.parametrize("case", WRONG)
def test_refuses(toy_detector: Any, case: str) -> None:
    edit, message = WRONG[case]
    model = toy_detector.model()
    edit(model.graph)
    with pytest.raises(ModelError, match=message) as caught:
        toy_detector.network(model)
    assert "\n" not in str(caught.value)


def test_a_retinanet_is_no_classifier(toy_detector: Any) -> None:
    from cmx4trt.networks.resnet50.onnx_import import network_from_classifier

    with pytest.raises(ModelError, match="not ResNet-50") as caught:
        network_from_classifier(toy_detector.model(), spec_of("resnet50"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", [0.01, 0.5, 0.9, 0.999])
def test_a_truncated_file(toy_detector: Any, part: float) -> None:
    message = toy_detector.message(toy_detector.model())
    with pytest.raises(ModelError) as caught:
        toy_detector.network(decode_model(message[: int(len(message) * part)]))
    assert "\n" not in str(caught.value)
