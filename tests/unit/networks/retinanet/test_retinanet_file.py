"""The whole of torchvision's export, as it comes and as others may write it: the same thousand detections, and an engine.

Its verification takes as long as all else here; README's line for RetinaNet builds and verifies this file (tests/docs).
"""

from __future__ import annotations

import lzma
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmx4trt.errors import ModelError
from cmx4trt.graph.network import PreparedGraph
from cmx4trt.ir.model import Graph, Model, Tensor
from cmx4trt.ir.onnx_file import decode_model
from cmx4trt.networks import spec_of
from cmx4trt.networks.graphs import network_from_model, prepared_from_network
from cmx4trt.networks.retinanet.spec import SPEC
from cmx4trt.requests.build import BuildRequest
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

pytestmark = pytest.mark.slow

SCORE_TOLERANCE = 1e-5
BOX_TOLERANCE = 0.02
"""Pixels; convolutions with folded batch normalisation round differently, exp amplifies it (3e-3 measured)."""


@dataclass(frozen=True)
class Expected:
    """Images [2, 3, 800, 800] in 0..1 and what ONNX Runtime detects in them with the file."""

    images: np.ndarray
    boxes: list[np.ndarray]
    scores: list[np.ndarray]
    labels: list[np.ndarray]


@pytest.fixture(scope="module")
def content(shared_fixtures: Path) -> bytes:
    return lzma.decompress((shared_fixtures / "retinanet_torchvision.onnx.xz").read_bytes())


@pytest.fixture(scope="module")
def expected(shared_fixtures: Path) -> Expected:
    stored = np.load(shared_fixtures / "retinanet_torchvision_expected.npz")
    results = [[stored[f"{kind}{image}"] for image in range(2)] for kind in ("boxes", "scores", "labels")]
    return Expected(np.stack([enlarged(low) for low in stored["low"]]), *results)


def enlarged(low: np.ndarray, size: int = 800) -> np.ndarray:
    """Bilinear, half-pixel centres, edges clamped (the fixture's README)."""
    cells = low.shape[-1]
    places = np.clip((np.arange(size) + 0.5) * cells / size - 0.5, 0, cells - 1)
    first = np.minimum(places.astype(int), cells - 2)
    weights = np.zeros((size, cells))
    weights[np.arange(size), first] = 1 - (places - first)
    weights[np.arange(size), first + 1] += places - first
    return np.einsum("ia,cab,jb->cij", weights, low, weights, optimize=True).astype(np.float32)


def prepared(model: Model, **options: object) -> PreparedGraph:
    request = BuildRequest.from_values({"network": "retinanet", "precision": "fp32", **options})
    return prepared_from_network(network_from_model(model, SPEC, request), request)


def as_it_is(content: bytes, folder: Path) -> Model:
    return decode_model(content)


def random_names(content: bytes, folder: Path) -> Model:
    """Every value and node, in the branches of If too, called by a random number."""
    model = decode_model(content)
    generator = random.Random(12)
    names: dict[str, str] = {"": ""}

    def renamed(name: str) -> str:
        return names.setdefault(name, f"{generator.getrandbits(64):x}")

    def rename(graph: Graph) -> None:
        for node in graph.nodes:
            node.inputs, node.outputs = list(map(renamed, node.inputs)), list(map(renamed, node.outputs))
            node.name = f"{generator.getrandbits(64):x}"
            for body in node.subgraphs():
                rename(body)
        graph.initializers = {
            renamed(name): Tensor(renamed(name), t.dtype, t.dims, t.data) for name, t in graph.initializers.items()
        }
        for info in (*graph.inputs, *graph.outputs):
            info.name = renamed(info.name)

    rename(model.graph)
    return model


def folded_by_onnxruntime(content: bytes, folder: Path) -> Model:
    """What ONNX Runtime's basic optimisation leaves: constants computed, batch normalisation in the convolutions."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / "folded.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    model = decode_model((folder / "folded.onnx").read_bytes())
    assert len(model.graph.nodes) < 1000
    return model


@pytest.mark.parametrize(("written", "batch"), [(as_it_is, 2), (random_names, 1), (folded_by_onnxruntime, 1)])
def test_a_batch_gives_the_files_detections(
    content: bytes, expected: Expected, tmp_path: Path, written: Callable[[bytes, Path], Model], batch: int
) -> None:
    graph = prepared(written(content, tmp_path), input_range="0-1")
    results = OnnxRuntimeSession.from_graph(graph.encoded).run({"input": expected.images[:batch]})
    for image in range(batch):
        assert results["num"][image] == len(expected.labels[image]) == 1000
        np.testing.assert_array_equal(results["labels"][image], expected.labels[image])
        np.testing.assert_allclose(results["scores"][image], expected.scores[image], rtol=0, atol=SCORE_TOLERANCE)
        np.testing.assert_allclose(results["boxes"][image], expected.boxes[image], rtol=0, atol=BOX_TOLERANCE)
    assert not results["inexact"].any()


def test_what_is_found_in_the_file(content: bytes) -> None:
    graph = prepared(decode_model(content))
    detector: Any = graph.details
    assert [(level.height, level.width) for level in detector.levels] == [(s, s) for s in (100, 50, 25, 13, 7)]
    assert graph.notes["batch_norm_folded"] == "106"
    np.testing.assert_array_equal(np.float32(detector.normalization.mean), np.float32([0.485, 0.456, 0.406]))
    np.testing.assert_array_equal(np.float32(detector.normalization.std), np.float32([0.229, 0.224, 0.225]))
    assert detector.candidates == 5000
    operators = {node.op_type for node in graph.model.graph.nodes}
    assert not operators & {"NonZero", "NonMaxSuppression", "Loop", "If", "Shape", "Constant", "Identity"}
    weights = sum(len(tensor.data) for tensor in graph.encoded.constants.values())
    assert len(graph.encoded.message) + weights < len(content) + 4e6


def test_tensorrt_rtx_builds_an_engine_for_batch_16(content: bytes, tensorrt_rtx: str) -> None:
    from cmx4trt.backends.tensorrt.rtx import TensorRTRTXBuilder
    from cmx4trt.base.progress import Silent

    precision = "fp16"
    options = {"network": "retinanet", "precision": precision, "batch_size": 16}
    request = BuildRequest.from_values(options)
    graph = prepared(decode_model(content), precision=precision)
    engine = TensorRTRTXBuilder().build(graph, request, Silent(), lambda: False)
    weights = sum(len(tensor.data) for tensor in graph.encoded.constants.values())
    assert len(bytes(engine.data)) < 1.2 * weights  # the compiled post-processing beside them
    raw = prepared(decode_model(content), precision=precision, postprocess="none")
    alone = TensorRTRTXBuilder().build(raw, request, Silent(), lambda: False)
    key = "max_scratch_memory_bytes"
    assert engine.facts[key] <= 1.01 * float(alone.facts[key])  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1000, 1_000_000, 140_000_000])
def test_a_truncated_file_is_refused(content: bytes, size: int) -> None:
    with pytest.raises(ModelError) as caught:
        prepared(decode_model(content[:size]))
    assert "\n" not in str(caught.value)


def test_the_file_as_a_classifier_is_refused(content: bytes) -> None:
    request = BuildRequest.from_values({"precision": "fp32"})
    with pytest.raises(ModelError, match="not ResNet-50") as caught:
        network_from_model(decode_model(content), spec_of("resnet50"), request)
    assert "\n" not in str(caught.value)
