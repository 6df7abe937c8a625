"""Post-processing on made-up heads: right graphs answer as their file does, wrong ones do not, whatever the weights find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cmx4trt.base.progress import Silent
from cmx4trt.base.verdicts import FAILED
from cmx4trt.graph.network import CanonicalGraph, PreparedGraph
from cmx4trt.ir.model import DType, Graph, Model, Node, Tensor
from cmx4trt.ir.onnx_file import EncodedGraph, encode_model
from cmx4trt.networks.graphs import prepared_from_network
from cmx4trt.networks.retinanet.comparison_result import DetectionComparison
from cmx4trt.networks.retinanet.made_heads import compare_answers, graphs_agree, made_heads, of_file, of_graph
from cmx4trt.networks.retinanet.matching import answers_agree
from cmx4trt.pipeline.prepare import Prepared, verify
from cmx4trt.quantize import quantize_network
from cmx4trt.verify import verify_graph
from cmx4trt.verify.quantization import QuantizationAccuracy

PRIOR = np.float32(-np.log(99))


def silent(toy: Any) -> Model:
    """A network that finds nothing on any image: its class head says no everywhere."""
    model: Model = toy.model()
    constants = model.graph.initializers
    biases = [t for t in constants.values() if t.dtype is DType.FLOAT and t.dims and np.allclose(t.numpy(), PRIOR)]
    assert biases
    for bias in biases:
        constants[bias.name] = Tensor.from_numpy(bias.name, np.full(bias.dims, -30, np.float32))
    return model


def class_offset(graph: Graph) -> None:
    node = next(n for n in graph.nodes if "labels" in n.outputs)
    node.outputs = ["labels_before" if name == "labels" else name for name in node.outputs]
    graph.initializers["one_class"] = Tensor.from_numpy("one_class", np.array(1, np.int32))
    graph.nodes.append(Node("Add", ["labels_before", "one_class"], ["labels"], {}, "one_class_more"))


def swapped_coordinates(graph: Graph) -> None:
    node = next(n for n in graph.nodes if "boxes" in n.outputs)
    node.outputs = ["boxes_before" if name == "boxes" else name for name in node.outputs]
    graph.initializers["yx"] = Tensor.from_numpy("yx", np.array([1, 0, 3, 2], np.int64))
    graph.nodes.append(Node("Gather", ["boxes_before", "yx"], ["boxes"], {"axis": 2}, "yx_boxes"))


def changed(start: str, edit: Callable[[np.ndarray], np.ndarray]) -> Callable[[Graph], None]:
    def change(graph: Graph) -> None:
        name = next(name for name in graph.initializers if name.startswith(start))
        graph.initializers[name] = Tensor.from_numpy(name, np.ascontiguousarray(edit(graph.initializers[name].numpy())))

    return change


def other_number(old: float, new: float) -> Callable[[Graph], None]:
    """Every scalar of this value that something compares or multiplies with."""

    def change(graph: Graph) -> None:
        for name, tensor in graph.initializers.items():
            if tensor.dtype is DType.FLOAT and tensor.dims == () and tensor.numpy() == np.float32(old):
                graph.initializers[name] = Tensor.from_numpy(name, np.float32(new).reshape(()))

    return change


MISTAKES: dict[str, Callable[[Graph], None]] = {
    "class offset": class_offset,
    "coordinates": swapped_coordinates,
    "anchors turned": changed("detect_anchor_sizes", lambda sizes: sizes[:, ::-1]),
    "anchors shifted": changed("detect_anchor_centres", lambda centres: centres + np.float32(0.5)),
    "score threshold": other_number(0.012, 0.05),
    "limit of sizes": other_number(np.log(1000 / 16), 1.0),
}


def with_mistake(graph: PreparedGraph, mistake: str) -> PreparedGraph:
    model = graph.model.copy()
    MISTAKES[mistake](model.graph)
    return replace(graph, model=model, encoded=encode_model(model))


@pytest.mark.parametrize("options", [{}, {"nms_offset": "no"}, {"postprocess": "mlperf-nvidia"}])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_right_graphs_answer_as_the_file_does(toy_detector: Any, precision: str, options: dict[str, str]) -> None:
    for seed in range(3):
        model = toy_detector.model(seed)
        graph = toy_detector.prepared(model.copy(), precision=precision, **options)
        heads = made_heads(graph.details)
        found = of_graph(graph, heads, "nms_offset" not in options)
        assert found is not None
        agreement = compare_answers(of_file(model, heads, graph.details), found, toy_detector.detector)
        assert answers_agree(agreement), agreement
        assert agreement.pairs > 20


def test_heads_are_the_same_in_every_type(toy_detector: Any) -> None:
    heads = made_heads(toy_detector.prepared(toy_detector.model()).details)
    again = made_heads(toy_detector.prepared(toy_detector.model(2)).details)
    for name, array in heads.items():
        assert np.array_equal(array, again[name])
        assert np.array_equal(array, array.astype(np.float16).astype(np.float32))
        assert not (array.view(np.uint32) & 0xFFFF).any(), "bfloat16 holds it"
    objects = np.concatenate([array[array > -10] for name, array in heads.items() if name.startswith("cls")])
    assert len(np.unique(objects)) == len(objects) > 40


def test_a_graph_that_ends_at_its_heads_has_no_post_processing(toy_detector: Any) -> None:
    graph = toy_detector.prepared(toy_detector.model(), postprocess="none")
    assert of_graph(graph, made_heads(graph.details), True) is None
    assert graphs_agree(graph, graph, True)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_found_where_nothing_is(toy_detector: Any, mistake: str) -> None:
    """In the float graph: on images neither the file nor the graph finds anything."""
    model = silent(toy_detector)
    message = toy_detector.message(model)
    graph = toy_detector.prepared(model.copy())
    right = verify_graph(graph, lambda output: EncodedGraph(message, {}), toy_detector.request())
    assert isinstance(right, DetectionComparison)
    assert right.passed, right.sentence()
    assert (right.expected, right.found) == (0, 0)
    wrong = verify_graph(with_mistake(graph, mistake), lambda output: EncodedGraph(message, {}), toy_detector.request())
    assert wrong.verdict == FAILED
    assert "of the same head tensors the graph makes other detections than the file" in wrong.sentence()


@pytest.fixture(scope="module")
def quantized(toy_detector: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Prepared, Any, bytes]:
    """A detector in INT8 that finds nothing, prepared as a build does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        model = silent(toy_detector)
        message = toy_detector.message(model)
        values = {
            "random_weights": 0,
            "calibration_data": "random",
            "precision": "int8",
            "calibration_method": "minmax",
        }
        request = toy_detector.request(**values)
        network = toy_detector.network(model, **values)
        twin = CanonicalGraph(network.model.copy(), network.spec, network.details)
        report = quantize_network(network, request, Silent())
        unrounded = network.model.copy()
        exact = prepared_from_network(twin, request.graph_options().in_float32())
        return Prepared(prepared_from_network(network, request), exact, report, unrounded), request, message


def verified(one: tuple[Prepared, Any, bytes], graph: PreparedGraph) -> QuantizationAccuracy:
    prepared, request, message = one
    found = verify(replace(prepared, graph=graph), lambda output: EncodedGraph(message, {}), request)
    assert isinstance(found, QuantizationAccuracy)
    return found


def test_a_right_graph_in_int8_is_not_refused(quantized: tuple[Prepared, Any, bytes]) -> None:
    found = verified(quantized, quantized[0].graph)
    assert found.verdict != FAILED, found.sentence()
    assert found.agreement is None, "there is nothing to find"


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_int8_are_refused_whatever_the_heads_are_worth(
    quantized: tuple[Prepared, Any, bytes], mistake: str
) -> None:
    found = verified(quantized, with_mistake(quantized[0].graph, mistake))
    assert found.verdict == FAILED
    assert "the detections are not those that" in found.sentence()
