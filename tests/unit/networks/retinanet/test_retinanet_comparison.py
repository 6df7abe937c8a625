"""Verification of a detector: right graphs pass in every layout and precision, wrong ones do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cmx4trt.errors import ModelError
from cmx4trt.graph.network import PreparedGraph
from cmx4trt.ir.model import DType, Graph, Node, Tensor
from cmx4trt.ir.onnx_file import EncodedGraph, encode_model
from cmx4trt.networks.retinanet.comparison import (
    GRIDS,
    IMAGES,
    LOGIT_LIMITS,
    MATCH_LIMITS,
    DetectionComparison,
    seeded_images,
)
from cmx4trt.verify import verify_graph


def verify(toy: Any, graph: PreparedGraph, engine: Any = None, **options: object) -> DetectionComparison:
    message = toy.message(toy.model())
    result = verify_graph(graph, lambda output: EncodedGraph(message, {}), toy.request(**options), engine)
    assert isinstance(result, DetectionComparison)
    return result


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"input_range": "0-1"},
        {"postprocess": "none"},
        {"postprocess": "mlperf-nvidia"},
        {"input_range": "0-1", "postprocess": "mlperf-nvidia", "batch_size": 4},
    ],
)
def test_float32_graphs_pass(toy_detector: Any, options: dict[str, object]) -> None:
    result = verify(toy_detector, toy_detector.prepared(toy_detector.model(), **options), **options)
    assert result.passed, result.sentence()
    assert result.equal == result.expected == result.found > 50
    assert result.images == IMAGES == 2
    assert result.logit_error is not None
    assert "\n" not in result.sentence()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_reduced_precision_passes_and_is_told_apart(toy_detector: Any, precision: str) -> None:
    graph = toy_detector.prepared(toy_detector.model(), precision=precision)
    result = verify(toy_detector, graph, precision=precision)
    assert result.passed, result.sentence()
    assert MATCH_LIMITS[precision] <= result.matched_fraction <= 1
    assert 1e-5 < result.logit_error <= LOGIT_LIMITS[precision]
    record = result.to_dict()
    assert record["matched_fraction_limit"] == MATCH_LIMITS[precision]
    assert json.loads(json.dumps(record)) == record
    assert not replace(result, precision="fp32").passed


def shift_boxes(graph: Graph) -> None:
    node = next(n for n in graph.nodes if n.outputs[0] == "box_0")
    bias = graph.initializers[node.inputs[2]].numpy() + np.float32(0.02)
    graph.initializers[node.inputs[2]] = Tensor.from_numpy(node.inputs[2], bias)


def swap_anchors(graph: Graph) -> None:
    name = next(name for name in graph.initializers if name.startswith("detect_anchor_sizes"))
    graph.initializers[name] = Tensor.from_numpy(name, np.ascontiguousarray(graph.initializers[name].numpy()[:, ::-1]))


def other_limit(graph: Graph) -> None:
    for tensor in graph.initializers.values():
        if tensor.dtype is DType.FLOAT and tensor.dims == () and tensor.numpy() == np.float32(0.5):
            if any(n.op_type == "Greater" for n in graph.consumers().get(tensor.name, [])):
                continue
            graph.initializers[tensor.name] = Tensor.from_numpy(tensor.name, np.float32(0.7).reshape(()))


def unscaled_scores(graph: Graph) -> None:
    next(node for node in graph.nodes if node.op_type == "Sigmoid").op_type = "HardSigmoid"


def frozen_batch(graph: Graph) -> None:
    """Every image of a batch gets the heads of the first."""
    node = next(n for n in graph.nodes if n.outputs[0] == "cls_0")
    node.outputs[0] = "all_images"
    for name, values in (("first", [0]), ("one", [1])):
        graph.initializers[name] = Tensor.from_numpy(name, np.array(values, np.int64))
    place = graph.nodes.index(node)
    graph.nodes[place + 1 : place + 1] = [
        Node("Slice", ["all_images", "first", "one", "first"], ["image"]),
        Node("Shape", ["all_images"], ["shape"]),
        Node("Expand", ["image", "shape"], ["cls_0"]),
    ]


WRONG: dict[str, Callable[[Graph], None]] = {
    "boxes": shift_boxes,
    "anchors": swap_anchors,
    "overlap": other_limit,
    "scores": unscaled_scores,
    "batch": frozen_batch,
}


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_graphs_fail(toy_detector: Any, fault: str) -> None:
    graph = toy_detector.prepared(toy_detector.model())
    model = graph.model.copy()
    WRONG[fault](model.graph)
    result = verify(toy_detector, replace(graph, model=model, encoded=encode_model(model)))
    assert not result.passed, result.sentence()
    assert result.to_dict()["verdict"] == "failed"


def test_another_networks_weights_fail_in_every_precision(toy_detector: Any) -> None:
    for precision in ("fp32", "fp16", "bf16"):
        graph = toy_detector.prepared(toy_detector.model(seed=2), precision=precision)
        assert not verify(toy_detector, graph, precision=precision).passed


@pytest.mark.parametrize("fault", ["boxes", "anchors"])
def test_wrong_boxes_show_where_nothing_is_detected(toy_detector: Any, fault: str) -> None:
    toy = type(toy_detector)()
    toy.detector = replace(toy.detector, score_threshold=0.9999)
    toy.topology = replace(toy.topology, detector=toy.detector)
    toy.spec = toy.topology.spec()
    graph = toy.prepared(toy.model())
    right = verify(toy, graph)
    assert right.passed
    assert right.expected == right.found == 0
    model = graph.model.copy()
    WRONG[fault](model.graph)
    assert not verify(toy, replace(graph, model=model, encoded=encode_model(model))).passed


def test_an_engine_of_batch_one_is_run_image_by_image(toy_detector: Any) -> None:
    from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

    graph = toy_detector.prepared(toy_detector.model())
    session = OnnxRuntimeSession.from_graph(graph.encoded)
    batches = []

    class Engine:
        inputs, outputs, max_batch = session.inputs, session.outputs, 1
        input_dtype = staticmethod(session.input_dtype)

        @staticmethod
        def run(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            batches.append(len(feeds["input"]))
            return session.run(feeds)

    assert verify(toy_detector, graph, Engine()).passed
    assert batches == [1, 1]


def test_results_of_another_kind(toy_detector: Any) -> None:
    model = toy_detector.model()
    model.graph.outputs = model.graph.outputs[:2]
    message = toy_detector.message(model)
    graph = toy_detector.prepared(model)
    with pytest.raises(ModelError, match=r"cannot be compared: got float32\[50, 4\], float32\[50\], expected boxes"):
        verify_graph(graph, lambda output: EncodedGraph(message, {}), toy_detector.request())


def passing() -> DetectionComparison:
    return DetectionComparison("fp32", 2, 100, 100, 100, 0, 0, 1e-7, 1e-4, 1.0, 1e-7, 1e-6, 0.95, 0)


def test_the_verdict() -> None:
    assert passing().passed
    assert replace(passing(), explained=1).passed
    assert not replace(passing(), explained=2).passed
    assert not replace(passing(), unexplained=1).passed
    assert not replace(passing(), logit_error=float("nan")).passed
    assert not replace(passing(), logit_error=2e-3).passed
    assert not replace(passing(), candidate_share=0.1).passed
    assert replace(passing(), candidate_share=None, logit_error=None).passed
    reduced = replace(passing(), precision="fp16", unexplained=50)
    assert reduced.passed
    assert not replace(reduced, matched_fraction=0.89).passed
    assert not replace(reduced, matched_fraction=float("nan")).passed


def test_images_are_seeded_and_in_range() -> None:
    images = seeded_images((3, 40, 60), 2)
    assert images.shape == (2, 3, 40, 60)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert images.std() > 0.1
    np.testing.assert_array_equal(images, seeded_images((3, 40, 60), 2))
    assert len(GRIDS) == 3
    assert not np.array_equal(images[0], images[1])
