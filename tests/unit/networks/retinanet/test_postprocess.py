"""The engine's outputs in every layout, against the file's own detections and the host's routine."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from cmx4trt.errors import RequestError
from cmx4trt.graph.network import PreparedGraph
from cmx4trt.ir.model import DType
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.networks.retinanet.detections import candidates_from_heads, detections_from_outputs, finish_detections
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

DETECTIONS = 50


def images(count: int) -> np.ndarray:
    return np.random.default_rng(6).random((count, 3, 128, 128), dtype=np.float32)


def run(graph: PreparedGraph, batch: np.ndarray) -> dict[str, np.ndarray]:
    message = encode_model(graph.model, None).message
    onnx.checker.check_model(onnx.load_model_from_string(message))
    return OnnxRuntimeSession.from_bytes(message).run({"input": batch})


@pytest.fixture(scope="module")
def file_results(toy_detector: Any) -> list[dict[str, np.ndarray]]:
    session = OnnxRuntimeSession.from_bytes(toy_detector.message(toy_detector.model()))
    return [session.run({"images": image[None]}) for image in images(3)]


@pytest.fixture(scope="module")
def tensors(toy_detector: Any) -> dict[str, np.ndarray]:
    return run(toy_detector.prepared(toy_detector.model(), input_range="0-1"), images(3))


def test_shapes_and_types(toy_detector: Any, tensors: dict[str, np.ndarray]) -> None:
    shapes = {name: (value.dtype.name, value.shape) for name, value in tensors.items()}
    assert shapes == {
        "boxes": ("float32", (3, DETECTIONS, 4)),
        "scores": ("float32", (3, DETECTIONS)),
        "labels": ("int32", (3, DETECTIONS)),
        "num": ("int32", (3,)),
        "inexact": ("int32", (3,)),
        "candidates": ("float32", (3, 267, 6)),
    }
    graph = toy_detector.prepared(toy_detector.model())
    declared = {info.name: (info.dtype, info.dims) for info in graph.outputs}
    assert declared["boxes"] == (DType.FLOAT, ("N", DETECTIONS, 4))
    assert declared["candidates"] == (DType.FLOAT, ("N", 267, 6))


def test_detections_are_the_files(file_results: list[dict[str, np.ndarray]], tensors: dict[str, np.ndarray]) -> None:
    for image, expected in enumerate(file_results):
        count = tensors["num"][image]
        assert count == len(expected["scores"]) > 10
        np.testing.assert_array_equal(tensors["labels"][image, :count], expected["labels"])
        np.testing.assert_allclose(tensors["scores"][image, :count], expected["scores"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(tensors["boxes"][image, :count], expected["boxes"], rtol=0, atol=1e-3)
    assert not tensors["inexact"].any()


def test_places_behind_the_last_detection_are_empty(toy_detector: Any) -> None:
    from dataclasses import replace

    from cmx4trt.networks.retinanet.random_weights import model_from_seed

    topology = replace(toy_detector.topology, detector=replace(toy_detector.detector, score_threshold=0.2))
    from cmx4trt.networks.graphs import network_from_model, prepared_from_network

    request = toy_detector.request(input_range="0-1")
    network = network_from_model(model_from_seed(1, topology), topology.spec(), request)
    found = run(prepared_from_network(network, request), images(3))
    assert (found["num"] < DETECTIONS).any()
    for image, count in enumerate(found["num"]):
        assert (found["scores"][image, :count] > 0.2).all()
        assert not found["scores"][image, count:].any()
        assert not found["boxes"][image, count:].any()
        assert (found["labels"][image, count:] == -1).all()


def test_candidates_hold_all_that_the_host_needs(toy_detector: Any, tensors: dict[str, np.ndarray]) -> None:
    for image in range(3):
        rows = tensors["candidates"][image]
        assert (np.diff(rows[:, 4]) <= 0).all()
        finished = finish_detections(rows, toy_detector.detector)
        count = tensors["num"][image]
        np.testing.assert_array_equal(finished.boxes, tensors["boxes"][image, :count])
        np.testing.assert_array_equal(finished.scores, tensors["scores"][image, :count])
        np.testing.assert_array_equal(finished.labels, tensors["labels"][image, :count])


def test_raw_heads_give_the_same_on_the_host(toy_detector: Any, tensors: dict[str, np.ndarray]) -> None:
    graph = toy_detector.prepared(toy_detector.model(), input_range="0-1", postprocess="none")
    assert [info.name for info in graph.outputs] == [f"{kind}_{i}" for kind in ("cls", "box") for i in range(5)]
    heads = run(graph, images(3))
    rows = candidates_from_heads(heads, 0, graph.details)
    np.testing.assert_allclose(rows[:, 4], tensors["candidates"][0, :, 4], rtol=0, atol=1e-7)
    for image, found in enumerate(detections_from_outputs(heads, toy_detector.detector, True, graph.details)):
        count = tensors["num"][image]
        np.testing.assert_array_equal(found.labels, tensors["labels"][image, :count])
        np.testing.assert_allclose(found.boxes, tensors["boxes"][image, :count], rtol=0, atol=1e-3)


def test_records_of_nvidias_harness(toy_detector: Any, tensors: dict[str, np.ndarray]) -> None:
    graph = toy_detector.prepared(toy_detector.model(), input_range="0-1", postprocess="mlperf-nvidia")
    assert [(info.name, info.dims) for info in graph.outputs] == [("nmsopt_output", ("N", 7 * DETECTIONS + 1))]
    records = run(graph, images(3))["nmsopt_output"]
    for image, record in enumerate(records):
        count = tensors["num"][image]
        assert record[-1] == count
        rows = record[:-1].reshape(-1, 7)[:count]
        boxes = tensors["boxes"][image, :count]
        assert not rows[:, 0].any()
        np.testing.assert_array_equal(rows[:, 1:5], boxes[:, [1, 0, 3, 2]] / np.float32(128))
        np.testing.assert_array_equal(rows[:, 5], tensors["scores"][image, :count])
        np.testing.assert_array_equal(rows[:, 6], tensors["labels"][image, :count])
        assert (record[:-1].reshape(-1, 7)[count:, 6] == -1).all()


def test_full_size_record_is_the_harness_length() -> None:
    from cmx4trt.networks.retinanet.spec import DETECTOR

    assert 7 * DETECTOR.detections + 1 == 7001


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_reduced_precision_ends_at_the_heads(toy_detector: Any, precision: str) -> None:
    prepared = toy_detector.prepared(toy_detector.model(), precision=precision)
    graph = prepared.model.graph
    reduced = {"fp16": DType.FLOAT16, "bf16": DType.BFLOAT16}[precision]
    assert {t.dtype for t in graph.initializers.values()} <= {reduced, DType.FLOAT, DType.INT64}
    weights = [graph.initializers[node.inputs[1]] for node in graph.nodes if node.op_type == "Conv"]
    assert {tensor.dtype for tensor in weights} == {reduced}
    proto = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(encode_model(prepared.model, None).message))
    types = {info.name: info.type.tensor_type.elem_type for info in proto.graph.value_info}
    behind = [node for node in graph.nodes if node.name.startswith("detect_") or node.outputs[0] == "candidates"]
    reading = {node.op_type for node in behind if any(types.get(name) == reduced for name in node.inputs)}
    assert reading == {"Reshape", "ReduceMax", "GatherElements", "Cast"}
    # Whole head tensors are not cast: that would take gigabytes.
    assert not [n for n in graph.nodes if n.op_type == "Cast" and n.inputs[0].startswith(("cls_", "box_"))]


def test_float16_graph_finds_nearly_the_same(toy_detector: Any, tensors: dict[str, np.ndarray]) -> None:
    found = run(toy_detector.prepared(toy_detector.model(), input_range="0-1", precision="fp16"), images(3))
    np.testing.assert_allclose(found["candidates"][:, :, 4], tensors["candidates"][:, :, 4], rtol=0.05)


def test_float16_input(toy_detector: Any, tensors: dict[str, np.ndarray]) -> None:
    graph = toy_detector.prepared(toy_detector.model(), input_range="0-1", input_dtype="fp16")
    assert graph.inputs[0].dtype is DType.FLOAT16
    found = run(graph, images(3).astype(np.float16))
    np.testing.assert_allclose(found["candidates"][:, :, 4], tensors["candidates"][:, :, 4], rtol=0.05)


def test_options_that_cannot_be_meant(toy_detector: Any) -> None:
    with pytest.raises(RequestError, match="output_dtype fp16 cannot hold boxes"):
        toy_detector.request(output_dtype="fp16")
    assert toy_detector.request(output_dtype="fp16", postprocess="none").output_dtype == "fp16"
    with pytest.raises(RequestError, match="postprocess is for retinanet, not resnet50"):
        toy_detector.request(network="resnet50", postprocess="none")


def test_raw_heads_as_float16(toy_detector: Any) -> None:
    graph = toy_detector.prepared(toy_detector.model(), postprocess="none", output_dtype="fp16", precision="fp16")
    assert {info.dtype for info in graph.outputs} == {DType.FLOAT16}
    assert not [node for node in graph.model.graph.nodes if node.op_type == "Cast" and node.inputs[0] != "input"]


@pytest.mark.parametrize(
    ("batch", "options"),
    [
        (1, {}),
        (4, {"nms_offset": "no", "input_range": "0-1"}),
        (4, {"postprocess": "mlperf-nvidia", "precision": "bf16"}),
        (4, {"precision": "fp16"}),
    ],
)
def test_tensorrt_rtx_builds_it(toy_detector: Any, tensorrt_rtx: str, options: dict[str, str], batch: int) -> None:
    from cmx4trt.backends.tensorrt.rtx import TensorRTRTXBuilder
    from cmx4trt.base.progress import Silent

    request = toy_detector.request(batch_size=batch, **options)
    graph = toy_detector.prepared(toy_detector.model(), batch_size=batch, **options)
    engine = TensorRTRTXBuilder().build(graph, request, Silent(), lambda: False)
    assert len(bytes(engine.data)) > 100_000
    assert not [line for line in engine.log if "Int64" in line]
