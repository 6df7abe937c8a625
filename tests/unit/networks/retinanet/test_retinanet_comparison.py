"""Verification of a detector: right graphs pass in every layout and precision, wrong ones do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cmx4trt.errors import ModelError
from cmx4trt.graph.judge.correspondence import computed_name
from cmx4trt.graph.network import PreparedGraph
from cmx4trt.graph.precision import cast_tensor, floats_from_tensor
from cmx4trt.ir.model import DType, Graph, Node, Tensor
from cmx4trt.ir.onnx_file import EncodedGraph, encode_model
from cmx4trt.networks.retinanet.comparison import IMAGES
from cmx4trt.networks.retinanet.comparison_result import DetectionComparison
from cmx4trt.networks.retinanet.heads_compared import HeadErrors
from cmx4trt.networks.retinanet.matching import Agreement
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
    assert result.expected == result.found > 50
    assert result.matched_fraction == 1
    assert result.reading.pairs == result.post_processing.pairs == result.expected
    assert result.images == IMAGES == 2
    assert result.layers is not None
    own = 2 if options.get("input_range") == "0-1" else 0  # the normalisation, judged with the first convolution
    assert result.layers.judged == result.layers.layers - own > 50
    assert result.heads is not None
    assert "\n" not in result.sentence()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_reduced_precision_passes_and_is_told_apart(toy_detector: Any, precision: str) -> None:
    graph = toy_detector.prepared(toy_detector.model(), precision=precision)
    result = verify(toy_detector, graph, precision=precision)
    assert result.passed, result.sentence()
    assert result.reading.pairs == result.expected
    assert result.post_processing.pairs == result.found
    assert result.heads is not None
    assert 1e-4 < result.heads.error <= result.heads.limit
    record = result.to_dict()
    assert record["head_error"] == result.heads.error
    assert json.loads(json.dumps(record)) == record


def shift_boxes(graph: Graph) -> None:
    node = next(n for n in graph.nodes if n.outputs[0] == computed_name(graph, "box_0"))
    name = node.inputs[2]
    bias = floats_from_tensor(graph.initializers[name]) + np.float32(0.05)
    graph.initializers[name] = cast_tensor(Tensor.from_numpy(name, bias), graph.initializers[name].dtype, name)


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
    heads = computed_name(graph, "cls_0")
    node = next(n for n in graph.nodes if n.outputs[0] == heads)
    node.outputs[0] = "all_images"
    for name, values in (("first", [0]), ("one", [1])):
        graph.initializers[name] = Tensor.from_numpy(name, np.array(values, np.int64))
    place = graph.nodes.index(node)
    graph.nodes[place + 1 : place + 1] = [
        Node("Slice", ["all_images", "first", "one", "first"], ["image"]),
        Node("Shape", ["all_images"], ["shape"]),
        Node("Expand", ["image", "shape"], [heads]),
    ]


WRONG: dict[str, Callable[[Graph], None]] = {
    "boxes": shift_boxes,
    "anchors": swap_anchors,
    "overlap": other_limit,
    "scores": unscaled_scores,
    "batch": frozen_batch,
}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("fault", WRONG)
def test_wrong_graphs_fail(toy_detector: Any, fault: str, precision: str) -> None:
    graph = toy_detector.prepared(toy_detector.model(), precision=precision)
    model = graph.model.copy()
    WRONG[fault](model.graph)
    wrong = replace(graph, model=model, encoded=encode_model(model))
    result = verify(toy_detector, wrong, precision=precision)
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


SAME = Agreement(100, 0, 0, 1e-7, 1e-4)
HEADS = HeadErrors(1e-6, 1e-4, 1e-5, True)


def passing() -> DetectionComparison:
    return DetectionComparison("fp32", 2, 100, 100, SAME, SAME, 1.0, 1e-7, 0, 0.95, HEADS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reading": replace(SAME, unexplained=1)}, "the file's own detections are not those"),
        (
            {"reading": replace(SAME, explained=2)},
            "2 changed by rounding, 0 different; so many scores or overlaps are equal",
        ),
        ({"post_processing": replace(SAME, unexplained=1)}, "the detections are not those that the heads lead to"),
        ({"candidate_share": 0.1}, "10.0% of the candidates"),
        ({"heads": replace(HEADS, error=2e-4)}, "relative error of the heads 2.00e-04 (limit 0.0001)"),
        ({"heads": replace(HEADS, error=float("nan"))}, "relative error of the heads nan"),
        ({"heads": replace(HEADS, own_images=False)}, "with the results of one image in another's place"),
        ({"heads": None, "matched_limit": 0.45, "matched_fraction": 0.4}, "40.0% found again (limit 45%)"),
    ],
)
def test_the_verdict(change: dict[str, Any], words: str) -> None:
    assert passing().passed
    assert replace(passing(), reading=replace(SAME, explained=1)).passed
    found = replace(passing(), **change)
    assert not found.passed
    assert words in found.sentence()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_logits_that_no_sigmoid_can_be_inverted_at_are_compared(toy_detector: Any, precision: str) -> None:
    """Below -15 float32 scores are a few steps from 0: logits are compared before the sigmoid, and a right graph passes."""

    class Quiet(type(toy_detector)):  # type: ignore[misc]
        def model(self, seed: int = 1) -> Any:
            model = super().model(seed)
            for name, tensor in model.graph.initializers.items():
                if tensor.dtype is DType.FLOAT and tensor.size == 27 and (tensor.numpy() < -4).all():
                    lower = np.full(27, -18.0, np.float32)
                    model.graph.initializers[name] = Tensor.from_numpy(name, lower)
            return model

    quiet = Quiet()
    graph = quiet.prepared(quiet.model(), precision=precision)
    result = verify(quiet, graph, precision=precision)
    assert result.passed, result.sentence()
    assert result.expected == 0
    model = graph.model.copy()
    shift_boxes(model.graph)
    assert not verify(quiet, replace(graph, model=model, encoded=encode_model(model)), precision=precision).passed
