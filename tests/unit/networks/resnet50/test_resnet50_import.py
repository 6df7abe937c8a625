from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import pytest

from cmx4trt.errors import ModelError
from cmx4trt.images.seeded import seeded_images
from cmx4trt.ir.model import DType, Model, Node, Tensor, ValueInfo
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.networks import spec_of
from cmx4trt.networks.classification.comparison import IMAGES, compare_classifiers
from cmx4trt.networks.graphs import network_from_model, prepared_from_network
from cmx4trt.networks.resnet50.onnx_import import network_from_classifier
from cmx4trt.requests.build import BuildRequest
from cmx4trt.sessions.batches import run_one_by_one
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

SPEC = spec_of("resnet50")


def prepare(model: Model, **values: object):
    request = BuildRequest.from_values({"precision": "fp32", **values})
    return prepared_from_network(network_from_model(model, SPEC, request), request)


def assert_same_results(original: Model, prepared) -> None:
    """The original with its logits as an output, against the prepared graph."""
    name = prepared.details.reference_output
    message = encode_model(original, None).message
    from cmx4trt.ir.onnx_file import with_output

    reference = OnnxRuntimeSession.from_bytes(with_output(message, name))
    session = OnnxRuntimeSession.from_graph(prepared.encoded)
    images = seeded_images(SPEC.input_shape, IMAGES)
    expected = run_one_by_one(reference, images, name)
    comparison = compare_classifiers(expected, expected[:1], session, images, name)
    assert comparison.passed, comparison.sentence()


def test_the_generators_file(resnet50_model: Model) -> None:
    original = resnet50_model.copy()
    prepared = prepare(resnet50_model)
    assert [(i.name, i.dtype, i.dims) for i in prepared.inputs] == [("input", DType.FLOAT, ("N", 3, 224, 224))]
    assert [(o.name, o.dtype, o.dims) for o in prepared.outputs] == [
        ("logits", DType.FLOAT, ("N", 1001)),
        ("class", DType.INT32, ("N",)),
    ]
    assert_same_results(original, prepared)
    onnx.checker.check_model(onnx.load_model_from_string(encode_model(prepared.model, None).message), full_check=True)


@pytest.mark.parametrize(("opset", "batch"), [(8, 1), (11, 1), (11, "unk"), (13, 4)])
def test_mlperf_files(mlperf_like: Callable[..., Model], opset: int, batch: int | str) -> None:
    model = mlperf_like(opset, batch)
    onnx.checker.check_model(onnx.load_model_from_string(encode_model(model, None).message))
    original = model.copy()
    prepared = prepare(model)
    operators = Counter(node.op_type for node in prepared.model.graph.nodes)
    assert operators["Conv"] == 53
    assert not operators["Pad"] + operators["BatchNormalization"] + operators["Softmax"]
    assert prepared.notes["batch_norm_folded"] == "53"
    assert prepared.details.reference_output == "dense"
    assert_same_results(original, prepared)


@pytest.mark.parametrize("opset", [11, 14, 17])
def test_torchvision_like_files(resnet50_model: Model, opset: int) -> None:
    """1000 classes, transposed Gemm, fixed batch, other names, Constant nodes."""
    graph = resnet50_model.graph
    weight = graph.initializers.pop("fc1000_weight").numpy()[:, :1000].T.copy()
    graph.initializers["fc.weight"] = Tensor.from_numpy("fc.weight", weight)
    bias = np.arange(1000, dtype=np.float32) / 1000
    gemm = next(node for node in graph.nodes if node.op_type == "Gemm")
    gemm.inputs[1:] = ["fc.weight", "fc.bias"]
    gemm.attributes = {"transB": 1, "alpha": 1.0, "beta": 1.0}
    graph.nodes.insert(0, Node("Constant", [], ["fc.bias"], {"value": Tensor.from_numpy("", bias)}))
    graph.claim_name("logits", "495")
    graph.inputs[0].dims = (1, 3, 224, 224)
    graph.outputs[0].dims = (1, 1000)
    resnet50_model.opsets[""] = opset
    original = resnet50_model.copy()
    prepared = prepare(resnet50_model)
    assert prepared.outputs[0].dims == ("N", 1000)
    assert_same_results(original, prepared)


def test_random_names_even_those_we_use(resnet50_model: Model) -> None:
    graph = resnet50_model.graph
    names = sorted(graph.names())
    shuffled = names[:]
    random.Random(3).shuffle(shuffled)
    swap = {old: f"v{new}" for old, new in zip(names, shuffled, strict=True)}
    taken = iter(["logits", "class", "pool5", "fc1000", "class_int64"])
    for node in graph.nodes[5:10]:
        swap[node.outputs[0]] = next(taken)
    for old, new in swap.items():
        graph.rename_value(old, f"tmp_{new}")
    for new in swap.values():
        graph.rename_value(f"tmp_{new}", new)
    original = resnet50_model.copy()
    prepared = prepare(resnet50_model)
    assert [info.name for info in prepared.inputs + prepared.outputs] == ["input", "logits", "class"]
    assert_same_results(original, prepared)


def test_nodes_that_bear_our_names(resnet50_model: Model) -> None:
    ours = dict(enumerate(["class", "pool5", "fc1000", "class_int64", "logits"]))
    for index, node in enumerate(resnet50_model.graph.nodes):
        node.name = ours.get(index, "")
    original = resnet50_model.copy()
    prepared = prepare(resnet50_model)
    names = [node.name for node in prepared.model.graph.nodes if node.name]
    assert len(set(names)) == len(names)
    assert_same_results(original, prepared)


def wrong(model: Model) -> str:
    with pytest.raises(ModelError) as error:
        network_from_classifier(model, SPEC)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_another_depth_is_refused(resnet50_model: Model) -> None:
    graph = resnet50_model.graph
    relu = next(node for node in graph.nodes if node.outputs[0] == "res5c_relu")
    graph.rename_reads("res5c_relu", "res5b_relu")
    graph.nodes.remove(relu)
    assert "found 50 convolutions, need 53" in wrong(resnet50_model)


def test_version_1_is_refused(resnet50_model: Model) -> None:
    for node in resnet50_model.graph.nodes:
        if node.op_type == "Conv" and node.name.endswith(("3a_branch2b", "4a_branch2b", "5a_branch2b")):
            node.attributes["strides"] = [1, 1]
            first = node.name.replace("branch2b", "branch2a")
            next(n for n in resnet50_model.graph.nodes if n.name == first).attributes["strides"] = [2, 2]
    assert "ResNet-50 v1)" in wrong(resnet50_model)


def test_another_width_is_refused(resnet50_model: Model) -> None:
    node = next(n for n in resnet50_model.graph.nodes if n.name == "res3b_branch2b")
    weight = resnet50_model.graph.initializers[node.inputs[1]]
    weight.dims = (128, 64, 3, 3)
    found = "the 3x3 convolution of block 5 (res3b_branch2b), Conv 'res3b_branch2b' of the file, with 64 input channels"
    assert f"found {found}, need 128 input channels" in wrong(resnet50_model)


def test_another_activation_is_refused(resnet50_model: Model) -> None:
    resnet50_model.graph.nodes[1].op_type = "LeakyRelu"
    assert "no ReLU after the first convolution (conv1), but LeakyRelu 'conv1_relu'" in wrong(resnet50_model)


@pytest.mark.parametrize("dims", [(1, 3, 299, 299), (1, 1, 224, 224), (3, 224, 224)])
def test_another_image_size_is_refused(resnet50_model: Model, dims: tuple[int, ...]) -> None:
    resnet50_model.graph.inputs[0].dims = dims
    assert "need [N, 3, 224, 224]" in wrong(resnet50_model)


def test_byte_input_is_refused(resnet50_model: Model) -> None:
    resnet50_model.graph.inputs[0].dtype = DType.UINT8
    assert "of type uint8, need float input" in wrong(resnet50_model)


def test_two_inputs_are_refused(resnet50_model: Model) -> None:
    resnet50_model.graph.inputs.append(ValueInfo("size", DType.FLOAT, (1, 2)))
    assert "found 2 inputs (input_tensor:0, size)" in wrong(resnet50_model)


def with_classes(model: Model, count: int) -> Model:
    """Another last layer: zeros, since only its size matters."""
    constants = model.graph.initializers
    constants["fc1000_weight"] = Tensor.from_numpy("fc1000_weight", np.zeros((2048, count), np.float32))
    constants["fc1000_bias"] = Tensor.from_numpy("fc1000_bias", np.zeros(count, np.float32))
    return model


@pytest.mark.parametrize("count", [2, 37, 100_000])
def test_other_numbers_of_classes_are_accepted(resnet50_model: Model, count: int) -> None:
    network = network_from_classifier(with_classes(resnet50_model, count), SPEC)
    assert network.model.graph.outputs[0].dims == ("N", count)
    assert network.notes["classes"] == str(count)


@pytest.mark.parametrize("count", [1, 100_001])
def test_sizes_that_are_no_classifiers_are_refused(resnet50_model: Model, count: int) -> None:
    assert f"2048 features and {count} classes, need 2048 features and 2 to 100000 classes" in wrong(
        with_classes(resnet50_model, count)
    )


def test_a_detector_and_a_toy_are_refused(resnet50_model: Model, model_from_text) -> None:
    resnet50_model.graph.nodes.append(Node("NonMaxSuppression", ["logits"], ["boxes"]))
    assert "detection operators (NonMaxSuppression)" in wrong(resnet50_model)
    assert "found no convolution" in wrong(
        model_from_text("g (float[1, 3, 224, 224] x) => (float[1] y) { y = Relu(x) }")
    )


def test_another_pooling_is_refused(resnet50_model: Model) -> None:
    node = next(n for n in resnet50_model.graph.nodes if n.op_type == "GlobalAveragePool")
    node.op_type = "GlobalMaxPool"
    assert "GlobalMaxPool 'pool5' in front of Gemm 'logits', need the mean" in wrong(resnet50_model)


@pytest.mark.parametrize("axes", [[2, 3], [-1, -2]])
def test_mean_over_height_and_width_is_accepted_in_every_spelling(resnet50_model: Model, axes: list[int]) -> None:
    node = next(n for n in resnet50_model.graph.nodes if n.op_type == "GlobalAveragePool")
    node.op_type, node.attributes = "ReduceMean", {"keepdims": 1}
    resnet50_model.graph.initializers["axes"] = Tensor.from_numpy("axes", np.array(axes, np.int64))
    node.inputs.append("axes")
    resnet50_model.opsets[""] = 18
    assert network_from_classifier(resnet50_model, SPEC).model.graph.outputs[0].dims == ("N", 1001)
