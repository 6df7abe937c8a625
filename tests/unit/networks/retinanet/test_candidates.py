"""The two-step selection of candidates against sorting everything, and decoding against torchvision's formula."""

from __future__ import annotations

from dataclasses import replace
from math import log
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cmx4trt.ir.model import DType, Graph, Model, ValueInfo
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.ir.writer import GraphWriter
from cmx4trt.networks.retinanet.candidates import write_boxes, write_level_pairs
from cmx4trt.networks.retinanet.details import Detector, Level, Normalization
from cmx4trt.networks.retinanet.spec import DetectorSpec
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

SPEC = DetectorSpec(classes=5, anchors_per_location=3, levels=2, candidates=12)
GRIDS = ((4, 3), (2, 1))
IDENTITY = Normalization((0.0,) * 3, (1.0,) * 3)
EXP_ULPS = 4
"""Units in the last place by which exp may differ between two libraries."""


def detector(spec: DetectorSpec = SPEC) -> Detector:
    random = np.random.default_rng(5)
    levels = []
    for height, width in GRIDS:
        low = random.integers(0, 60, (spec.anchors_per_location * height * width, 2))
        anchors = np.concatenate([low, low + random.integers(1, 40, low.shape)], axis=1).astype(np.float32)
        levels.append(Level(height, width, anchors))
    return Detector(spec, 90, 100, tuple(levels), IDENTITY, (), ())


@pytest.fixture(scope="module")
def session() -> OnnxRuntimeSession:
    found = detector()
    inputs, outputs = [], []
    for number, (height, width) in enumerate(GRIDS):
        inputs += [ValueInfo(f"cls_{number}", DType.FLOAT, ("N", 15, height, width))]
        inputs += [ValueInfo(f"box_{number}", DType.FLOAT, ("N", 12, height, width))]
    graph = Graph("candidates", [], {}, inputs, [])
    write = GraphWriter(graph, "")
    pairs = [write_level_pairs(write, found, found.levels[i], f"cls_{i}", f"box_{i}") for i in range(2)]
    for number, pair in enumerate(pairs):
        for kind, dtype in (("logits", DType.FLOAT), ("labels", DType.INT64), ("anchors", DType.INT64)):
            write.op("Identity", getattr(pair, kind), name=f"{kind}_{number}")
            outputs.append(ValueInfo(f"{kind}_{number}", dtype, ("N", "k")))
    write.op("Identity", write_boxes(write, found, pairs), name="boxes")
    graph.outputs = [*outputs, ValueInfo("boxes", DType.FLOAT, ("N", "T", 4))]
    message = encode_model(Model(graph, {"": 19}, 9), None).message
    onnx.checker.check_model(onnx.load_model_from_string(message), full_check=True)
    return OnnxRuntimeSession.from_bytes(message)


def logits_by_anchor(values: np.ndarray) -> np.ndarray:
    """[A * K, H, W] -> [A * H * W, K]."""
    anchors = values.reshape(SPEC.anchors_per_location, SPEC.classes, -1)
    return anchors.transpose(0, 2, 1).reshape(-1, SPEC.classes)


def feeds(logits: list[np.ndarray], offsets: list[np.ndarray] | None = None) -> dict[str, np.ndarray]:
    values = {f"cls_{number}": value for number, value in enumerate(logits)}
    for number, (height, width) in enumerate(GRIDS):
        zeros = np.zeros((len(logits[0]), 12, height, width), np.float32)
        values[f"box_{number}"] = offsets[number] if offsets else zeros
    return values


def level_logits(few: bool) -> st.SearchStrategy[list[np.ndarray]]:
    numbers = st.sampled_from([-1.0, 0.0, 0.5, 2.0]) if few else st.floats(-20, 20, width=32)
    shapes = [(2, 15, height, width) for height, width in GRIDS]
    return st.tuples(*(arrays.arrays(np.float32, shape, elements=numbers) for shape in shapes)).map(list)


@settings(max_examples=60, deadline=None)
@given(logits=st.one_of(level_logits(True), level_logits(False)))
def test_pairs_are_the_best_of_all(session: OnnxRuntimeSession, logits: list[np.ndarray]) -> None:
    results = session.run(feeds(logits))
    for number, level in enumerate(GRIDS):
        count = min(SPEC.candidates, 15 * level[0] * level[1])
        for image in range(2):
            table = logits_by_anchor(logits[number][image])
            found, labels, rows = (results[f"{kind}_{number}"][image] for kind in ("logits", "labels", "anchors"))
            np.testing.assert_array_equal(found, np.sort(table, axis=None)[::-1][:count])
            np.testing.assert_array_equal(found, table[rows, labels])
            assert len(set(zip(rows.tolist(), labels.tolist(), strict=True))) == count


@settings(max_examples=40, deadline=None)
@given(offsets=st.tuples(*(arrays.arrays(np.float32, (1, 12, *g), elements=st.floats(-9, 9, width=32)) for g in GRIDS)))
def test_boxes_are_decoded_and_clipped(session: OnnxRuntimeSession, offsets: tuple[np.ndarray, ...]) -> None:
    random = np.random.default_rng(1)
    logits = [random.permutation(15 * h * w).reshape(1, 15, h, w).astype(np.float32) for h, w in GRIDS]
    results = session.run(feeds(logits, list(offsets)))
    wanted = []
    for number, level in enumerate(detector().levels):
        by_anchor = offsets[number][0].reshape(3, 4, -1).transpose(0, 2, 1).reshape(-1, 4).astype(np.float64)
        for row in results[f"anchors_{number}"][0]:
            x1, y1, x2, y2 = level.anchors[row].astype(np.float64)
            dx, dy, dw, dh = by_anchor[row]
            half_w = np.exp(min(dw, log(1000 / 16))) * (x2 - x1) / 2
            half_h = np.exp(min(dh, log(1000 / 16))) * (y2 - y1) / 2
            x, y = (x1 + x2) / 2 + dx * (x2 - x1), (y1 + y2) / 2 + dy * (y2 - y1)
            wanted.append([x - half_w, y - half_h, x + half_w, y + half_h])
    clipped = np.clip(wanted, 0, [100, 90, 100, 90])
    largest = max(1000.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(results["boxes"][0], clipped, rtol=0, atol=EXP_ULPS * 2.0**-23 * largest)


def test_a_level_smaller_than_the_candidates(session: OnnxRuntimeSession) -> None:
    found = detector(replace(SPEC, candidates=1000))
    assert [found.level_candidates(level) for level in found.levels] == [180, 30]
    assert found.candidates == 210


def test_float16_heads_are_widened_before_sorting() -> None:
    found = detector()
    graph = Graph("half", [], {}, [ValueInfo("cls", DType.FLOAT16, ("N", 15, 4, 3))], [])
    graph.inputs.append(ValueInfo("box", DType.FLOAT16, ("N", 12, 4, 3)))
    write = GraphWriter(graph, "")
    pair = write_level_pairs(write, found, found.levels[0], "cls", "box")
    graph.outputs = [ValueInfo(pair.logits, DType.FLOAT, None), ValueInfo(pair.offsets, DType.FLOAT, None)]
    session = OnnxRuntimeSession.from_graph(encode_model(Model(graph, {"": 19}, 9)))
    logits = np.random.default_rng(3).standard_normal((2, 15, 4, 3)).astype(np.float16)
    results: dict[str, Any] = session.run({"cls": logits, "box": np.zeros((2, 12, 4, 3), np.float16)})
    wanted = -np.sort(-logits.reshape(2, -1).astype(np.float32))[:, :12]
    np.testing.assert_array_equal(results[pair.logits], wanted)
