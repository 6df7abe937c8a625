"""The host's routines: suppression without limits of steps, every output layout read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cmx4trt.networks.retinanet.detections import (
    _largest,
    detections_from_outputs,
    detections_from_record,
    finish_detections,
)
from cmx4trt.networks.retinanet.spec import DETECTOR

ROWS = np.array(
    [
        [0, 0, 10, 10, 0.9, 1],
        [1, 0, 11, 10, 0.8, 1],  # overlaps the first by 9/11
        [1, 0, 11, 10, 0.7, 2],  # another class
        [6, 0, 16, 10, 0.6, 1],  # overlaps the first by 4/16, the second, which is gone, by 5/15
        [0, 0, 0, 10, 0.5, 1],  # no area
        [0, 0, 10, 20, 0.4, 1],  # exactly one half with the first: not above the limit
        [50, 50, 60, 60, 0.05, 1],  # not above the threshold
    ],
    np.float32,
)


@pytest.mark.parametrize("offset", [True, False])
def test_greedy_suppression(offset: bool) -> None:
    found = finish_detections(ROWS, DETECTOR, offset)
    np.testing.assert_array_equal(found.scores, ROWS[[0, 2, 3, 4, 5], 4])
    np.testing.assert_array_equal(found.boxes, ROWS[[0, 2, 3, 4, 5], :4])
    np.testing.assert_array_equal(found.labels, [1, 2, 1, 1, 1])
    assert found.labels.dtype == np.int32
    assert not found.inexact


def test_no_more_than_wanted() -> None:
    assert len(finish_detections(ROWS, replace(DETECTOR, detections=2))) == 2


def test_nothing_above_the_threshold() -> None:
    found = finish_detections(ROWS[-1:], DETECTOR)
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)


def tensors(inexact: int) -> dict[str, np.ndarray]:
    return {
        "boxes": np.full((1, 5, 4), 7, np.float32),
        "scores": np.full((1, 5), 0.7, np.float32),
        "labels": np.full((1, 5), 7, np.int32),
        "num": np.int32([2]),
        "inexact": np.int32([inexact]),
        "candidates": ROWS[None],
    }


def test_settled_images_are_taken_as_they_are() -> None:
    (found,) = detections_from_outputs(tensors(0), DETECTOR)
    assert found.labels.tolist() == [7, 7]


def test_images_marked_inexact_are_finished() -> None:
    (found,) = detections_from_outputs(tensors(1), DETECTOR)
    assert found.labels.tolist() == [1, 2, 1, 1, 1]


def test_records() -> None:
    record = np.zeros(7 * 3 + 1, np.float32)
    record[-1] = 2
    record[:14] = [0, 0.1, 0.2, 0.3, 0.4, 0.9, 5, 0, 0.0, 0.0, 1.0, 1.0, 0.8, 263]
    found = detections_from_record(record, (100, 200))
    np.testing.assert_allclose(found.boxes, [[40, 10, 80, 30], [0, 0, 200, 100]], rtol=1e-6)
    assert found.labels.tolist() == [5, 263]
    assert not found.inexact
    record[0] = 1
    assert detections_from_record(record, (100, 200)).inexact


def test_other_layouts_need_the_detector() -> None:
    with pytest.raises(TypeError, match="give detector"):
        detections_from_outputs({"nmsopt_output": np.zeros((1, 8), np.float32)}, DETECTOR)


def test_records_of_a_graph(toy_detector: Any) -> None:
    from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

    image = np.random.default_rng(1).random((1, 3, 128, 128), dtype=np.float32)
    found = []
    for layout in ("tensors", "mlperf-nvidia", "none"):
        graph = toy_detector.prepared(toy_detector.model(), postprocess=layout)
        outputs = OnnxRuntimeSession.from_graph(graph.encoded).run({"input": image})
        found += detections_from_outputs(outputs, toy_detector.detector, True, graph.details)
    for other in found[1:]:
        np.testing.assert_array_equal(other.labels, found[0].labels)
        np.testing.assert_allclose(other.boxes, found[0].boxes, rtol=0, atol=1e-3)


def test_of_equal_logits_the_first_are_candidates() -> None:
    """As TopK takes them; in bfloat16 many logits are equal."""
    values = np.random.default_rng(0).integers(0, 6, 500).astype(np.float32)
    for logits in (values, np.where(values == 3, np.float32(np.nan), values)):
        for count in (1, 7, 100, 499, 500):
            expected = np.argsort(-logits, kind="stable")[:count]
            assert np.array_equal(_largest(logits, count), expected)
