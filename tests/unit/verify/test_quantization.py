"""What INT8 changes: measured on graphs whose differences are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx.parser
import pytest

from cmx4trt.base.progress import Silent
from cmx4trt.base.verdicts import FAILED, PASSED, SKIPPED
from cmx4trt.graph.execution import open_prepared
from cmx4trt.graph.judge.correspondence import computed_name
from cmx4trt.graph.network import CanonicalGraph, PreparedGraph
from cmx4trt.ir.model import DType, Graph, Model, Tensor
from cmx4trt.ir.onnx_file import decode_model
from cmx4trt.networks.base import Results
from cmx4trt.networks.classification import CLASS_RESULTS
from cmx4trt.networks.graphs import prepared_from_network
from cmx4trt.networks.retinanet.detections import Detections
from cmx4trt.networks.retinanet.matching import found_again
from cmx4trt.quantize import QuantizationReport, quantize_network
from cmx4trt.requests.build import BuildRequest
from cmx4trt.verify.layers import layer_errors
from cmx4trt.verify.quantization import (
    FLOOR_SQNR_DB,
    MIN_SQNR_DB,
    Evidence,
    QuantizationAccuracy,
    measure_quantization,
    verify_quantized,
)
from cmx4trt.verify.tally import sqnr_db


class Images:
    def __init__(self, count: int, shape: tuple[int, ...] = (3, 4, 4)) -> None:
        self._images = np.random.default_rng(1).standard_normal((count, 1, *shape)).astype(np.float32)

    def __len__(self) -> int:
        return len(self._images)

    def read(self, index: int) -> np.ndarray:
        return self._images[index]


class Fake:
    """A session that returns what a function makes of the image."""

    inputs = ("x",)

    def __init__(self, function, dtype: str = "float32") -> None:  # type: ignore[no-untyped-def]
        self._function = function
        self._dtype = dtype

    def input_dtype(self, name: str) -> str:
        return self._dtype

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert feeds["x"].dtype == self._dtype
        return self._function(feeds["x"])


def classified(logits: np.ndarray) -> dict[str, np.ndarray]:
    return {"logits": logits, "class": logits.argmax(1)}


def exact(x: np.ndarray) -> dict[str, np.ndarray]:
    return classified(x.reshape(1, -1)[:, :10].astype(np.float32))


def test_sqnr() -> None:
    assert sqnr_db(100.0, 1.0) == pytest.approx(20.0)
    assert sqnr_db(1.0, 0.0) is None
    assert sqnr_db(0.0, 1.0) == float("-inf")


def test_equal_graphs_have_no_error() -> None:
    found = measure_quantization(Fake(exact), Fake(exact), Evidence(Images(5)), 3, CLASS_RESULTS)
    assert (found.images, found.sqnr_db, found.agreement, found.verdict) == (3, {"logits": None}, 1.0, PASSED)


def test_a_known_error_gives_its_sqnr_and_agreement() -> None:
    def louder(x: np.ndarray) -> dict[str, np.ndarray]:
        return classified(exact(x)["logits"] * np.float32(1.1))

    found = measure_quantization(Fake(exact), Fake(louder), Evidence(Images(4)), 4, CLASS_RESULTS)
    assert found.sqnr_db["logits"] == pytest.approx(20.0, abs=1e-4)
    assert found.agreement == 1.0
    swapped = measure_quantization(
        Fake(exact), Fake(lambda x: classified(-exact(x)["logits"])), Evidence(Images(4)), 4, CLASS_RESULTS
    )
    assert swapped.agreement == 0.0
    assert swapped.verdict == FAILED


@pytest.mark.parametrize(
    ("values", "synthetic", "verdict"),
    [
        ({"logits": MIN_SQNR_DB + 1}, False, PASSED),
        ({"logits": MIN_SQNR_DB + 1, "box_0": MIN_SQNR_DB - 1}, False, FAILED),
        ({"logits": float("nan")}, False, FAILED),
        ({"logits": MIN_SQNR_DB + 1}, True, PASSED),
        ({"logits": MIN_SQNR_DB - 1}, True, SKIPPED),
        ({"logits": FLOOR_SQNR_DB - 0.1}, True, FAILED),
        ({"logits": -11.9}, True, FAILED),
        ({"logits": float("nan")}, True, FAILED),
    ],
)
def test_verdicts(values: dict[str, float], synthetic: bool, verdict: str) -> None:
    accuracy = QuantizationAccuracy(1, True, synthetic, values, 1.0, "classes")
    assert accuracy.verdict == verdict
    assert accuracy.to_dict()["verdict"] == verdict


@pytest.mark.parametrize(
    ("agreement", "synthetic", "trained", "verdict"),
    [
        (0.5, False, True, PASSED),
        (0.49, False, True, FAILED),
        (0.49, True, True, SKIPPED),
        (0.49, False, False, SKIPPED),
        (0.5, True, False, PASSED),
        (None, False, True, FAILED),
        (float("nan"), False, True, FAILED),
    ],
)
def test_verdicts_on_detections_alone(agreement: float, synthetic: bool, trained: bool, verdict: str) -> None:
    accuracy = QuantizationAccuracy(1, True, synthetic, {}, agreement, "detections", trained=trained)
    assert accuracy.verdict == verdict
    assert "of detections agree (limit 50%), on 1" in accuracy.sentence()


def test_the_sentence_says_what_images_these_were() -> None:
    sentences = [
        QuantizationAccuracy(2, held_out, synthetic, {"logits": 20.0}, 0.5, "classes").sentence()
        for held_out, synthetic in ((True, False), (False, False), (True, True))
    ]
    assert sentences[0] == "lowest SQNR 20.0 dB (limit 10 dB), 50.0% of classes agree, on 2 held-out images"
    assert "on 2 calibration images" in sentences[1]
    assert "on 2 synthetic images" in sentences[2]


def test_int8_inputs_are_fed_integers() -> None:
    scale = 0.05

    def dequantize(x: np.ndarray) -> dict[str, np.ndarray]:
        return exact(x.astype(np.float32) * np.float32(scale))

    found = measure_quantization(
        Fake(exact), Fake(dequantize, "int8"), Evidence(Images(100)), 100, CLASS_RESULTS, scale
    )
    value = found.sqnr_db["logits"]
    # Rounding noise of a step is step^2 / 12; the images have variance 1.
    assert value == pytest.approx(10 * np.log10(12 / scale**2), abs=1.0)


def test_detections_found_again() -> None:
    boxes = np.array([[0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 60, 60]], np.float32)
    scores, labels = np.array([0.9, 0.8, 0.7], np.float32), np.array([1, 2, 3], np.int32)
    reference = [Detections(boxes, scores, labels)]
    candidate = [Detections(boxes[:2] + np.float32(1), scores[:2], np.array([1, 7], np.int32))]

    def detect(outputs: Mapping[str, np.ndarray]) -> list[Detections]:
        return reference if "cls_0" in outputs else candidate

    results = Results(("cls_0",), "detections", lambda expected, got: found_again(detect(expected), detect(got)))
    sessions = Fake(lambda x: {"cls_0": x}), Fake(lambda x: {"cls_0_float16": x.astype(np.float16)})
    found = measure_quantization(*sessions, Evidence(Images(1)), 1, results)
    assert found.agreement == pytest.approx(1 / 3)
    assert found.sqnr_db["cls_0"] is not None
    assert found.sqnr_db["cls_0"] > 60.0


def quantized_pair(
    network: CanonicalGraph, request: BuildRequest
) -> tuple[PreparedGraph, PreparedGraph, QuantizationReport]:
    twin = network.copy()
    report = quantize_network(network, request, Silent())
    float32 = prepared_from_network(twin, replace(request, precision="fp32", input_dtype="fp32"))
    return float32, prepared_from_network(network, request), report


@pytest.mark.parametrize("postprocess", ["tensors", "none"])
def test_detector(toy_detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postprocess: str) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    values = {"random_weights": 0, "calibration_data": "random", "precision": "int8", "postprocess": postprocess}
    request = toy_detector.request(**values)
    reference, graph, report = quantized_pair(toy_detector.network(toy_detector.model(), **values), request)
    found = verify_quantized(reference, graph, Evidence(report.images, synthetic=True), request)
    assert sorted(found.sqnr_db) == sorted([*(f"cls_{i}" for i in range(5)), *(f"box_{i}" for i in range(5))])
    assert found.agreement_of == "detections"
    again = verify_quantized(reference, reference, Evidence(report.images), request)
    assert all(value is None or value > 100 for value in again.sqnr_db.values())  # what is watched is not fused
    assert again.agreement in (None, 1.0)
    engine = open_prepared(graph)
    run = verify_quantized(reference, graph, Evidence(report.images), request, engine=engine)
    assert (run.sqnr_db == {}) == (postprocess == "tensors"), "an engine has the outputs it was built with"
    assert run.agreement == found.agreement
    assert not run.trained


def class_scales(graph: Graph, factor: float) -> None:
    """The scale of what every class head's last convolution reads."""
    producers = graph.producers()
    for level in range(5):
        dequantized = producers[producers[computed_name(graph, f"cls_{level}")].inputs[0]]
        for node in (dequantized, producers[dequantized.inputs[0]]):
            name = f"{node.inputs[1]}/{factor}"
            scale = graph.initializers[node.inputs[1]]
            graph.initializers[name] = Tensor.from_numpy(name, scale.numpy() * scale.numpy().dtype.type(factor))
            node.inputs[1] = name


def test_wrong_scales_in_front_of_the_class_heads_fail(toy_detector, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Their prior, which no scale changes, has most of the energy of the logits."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    values = {"random_weights": 0, "calibration_data": "random", "precision": "int8"}
    request = toy_detector.request(**values)
    reference, graph, report = quantized_pair(toy_detector.network(toy_detector.model(), **values), request)
    evidence = Evidence(report.images)
    right = verify_quantized(reference, graph, evidence, request)
    assert right.verdict == PASSED, right.sentence()
    assert right.agreement_of_noise is not None
    class_scales(graph.model.graph, 100.0)
    wrong = verify_quantized(reference, graph, evidence, request)
    assert wrong.verdict == FAILED
    assert min(value for name, value in wrong.sqnr_db.items() if name.startswith("cls")) < MIN_SQNR_DB


@pytest.mark.parametrize(
    ("agreement", "of_noise", "verdict", "words"),
    [
        (0.9, 0.9, PASSED, "90.0% of detections agree (limit 50%)"),
        (0.3, 0.9, FAILED, "30.0% of detections agree (limit 50%)"),
        (0.1, 0.3, PASSED, "they cannot tell: noise alone would change as many"),
    ],
)
def test_detections_count_where_they_can_tell(agreement: float, of_noise: float, verdict: str, words: str) -> None:
    found = QuantizationAccuracy(2, True, False, {"cls_0": 20.0}, agreement, "detections", agreement_of_noise=of_noise)
    assert found.verdict == verdict
    assert words in found.sentence()


def test_layers_are_held_to_the_quantized_network(toy_detector, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    values = {"random_weights": 0, "calibration_data": "random", "precision": "int8"}
    request = toy_detector.request(**values)
    network = toy_detector.network(toy_detector.model(), **values)
    report = quantize_network(network, request, Silent())
    quantized = network.model.copy()
    graph = prepared_from_network(network, request.graph_options())
    twin = toy_detector.prepared(toy_detector.model())
    evidence = Evidence(report.images, synthetic=True)
    right = verify_quantized(twin, graph, evidence, request, quantized=quantized)
    assert right.layers is not None
    assert right.layers.passed, right.sentence()
    assert right.to_dict()["layers"]["judged"] == right.layers.layers
    relu = next(node for node in graph.model.graph.nodes if node.op_type == "Relu")
    relu.op_type = "Abs"
    wrong = verify_quantized(twin, graph, evidence, request, quantized=quantized)
    assert wrong.verdict == FAILED
    assert wrong.sentence().startswith("Abs '")


class OneLoud(Images):
    """The second image is beyond float16."""

    def read(self, index: int) -> np.ndarray:
        return super().read(index) * np.float32(1e6 if index == 1 else 1)


def test_an_overflow_on_any_of_the_images_is_refused(toy_detector, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """The int8 range behind it hides it from the results."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    values = {"random_weights": 0, "calibration_data": "random", "precision": "int8"}
    request = toy_detector.request(**values)
    reference, graph, _ = quantized_pair(toy_detector.network(toy_detector.model(), **values), request)
    shape = toy_detector.spec.input_shape
    quiet = verify_quantized(reference, graph, Evidence(Images(2, shape), synthetic=True), request)
    assert quiet.non_finite is None
    loud = verify_quantized(reference, graph, Evidence(OneLoud(2, shape), synthetic=True), request)
    assert loud.verdict == FAILED
    assert "overflows float16: " in loud.sentence()
    assert "non_finite" not in loud.to_dict()


def text_model(weight: np.ndarray) -> Model:
    body = "a = Conv (x, w) r = Relu (a) y = Conv (r, v)"
    text = f'<ir_version: 9, opset_import: ["" : 19]> g (float[N,3,4,4] x) => (float[N,M,H,W] y) {{ {body} }}'
    model = decode_model(onnx.parser.parse_model(text).SerializeToString())
    for name, value in (("w", weight), ("v", np.ones((2, 3, 1, 1), np.float32))):
        model.graph.initializers[name] = Tensor.from_numpy(name, value)
    return model


def test_layer_errors_are_those_of_the_layers() -> None:
    weight = np.random.default_rng(2).standard_normal((3, 3, 1, 1)).astype(np.float32)
    errors = layer_errors(text_model(weight), text_model(weight * np.float32(1.01)), ["a", "y"], Images(2), 2)
    assert {error.layer for error in errors} == {"a", "y"}
    assert [error.sqnr_db for error in errors] == pytest.approx([40.0, 40.0], abs=1e-2)
    same = layer_errors(text_model(weight), text_model(weight), ["a", "y"], Images(2), 2)
    assert [error.sqnr_db for error in same] == [None, None]


def test_the_worst_layer_comes_first() -> None:
    weight = np.random.default_rng(2).standard_normal((3, 3, 1, 1)).astype(np.float32)
    other = text_model(weight)
    other.graph.initializers["v"] = Tensor.from_numpy("v", np.full((2, 3, 1, 1), 1.3, np.float32), DType.FLOAT)
    errors = layer_errors(text_model(weight), other, ["a", "y"], Images(2), 2)
    assert [error.layer for error in errors] == ["y", "a"]
