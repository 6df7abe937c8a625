"""What detectors answer LoadGen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from answers import Recorder, responder_for

from cmx4trt.errors import UnsupportedError

module = pytest.importorskip("mlperf_loadgen", reason="LoadGen is not installed (pip install 'cmx4trt[bench]')")


def _tensors() -> dict[str, Any]:
    boxes = np.zeros((3, 4, 4), np.float32)
    boxes[0, 0] = [80, 160, 400, 800]  # x1, y1, x2, y2 in pixels of 800
    boxes[1, :2] = [[0, 0, 800, 800], [8, 8, 16, 24]]
    return {
        "boxes": boxes,
        "scores": np.array([[0.9, 0, 0, 0], [0.8, 0.7, 0, 0], [0.5, 0.5, 0.5, 0.5]], np.float32),
        "labels": np.array([[3, -1, -1, -1], [5, 6, -1, -1], [1, 1, 1, 1]], np.int32),
        "num": np.array([1, 2, 4], np.int32),
        "inexact": np.zeros(3, np.int32),
        "candidates": np.zeros((3, 4, 6), np.float32),
    }


def test_detections_are_mlperfs_records() -> None:
    lg, outputs = Recorder(module), _tensors()
    responder_for("retinanet", tuple(outputs))(lg, 4).complete([21, 22], [40, 41], outputs)
    found = {i: np.frombuffer(data, np.float32).reshape(-1, 7) for i, data in lg.answers}
    assert found.keys() == {21, 22}  # the third row of the outputs was padding
    np.testing.assert_allclose(found[21], [[40, 0.2, 0.1, 1.0, 0.5, 0.9, 3]], rtol=1e-6)
    np.testing.assert_allclose(found[22], [[41, 0, 0, 1, 1, 0.8, 5], [41, 0.01, 0.01, 0.03, 0.02, 0.7, 6]], rtol=1e-6)


def test_an_image_whose_suppression_did_not_settle_is_finished_from_its_candidates() -> None:
    lg, outputs = Recorder(module), _tensors()
    outputs["inexact"][0] = 1
    outputs["candidates"][0, :2] = [[0, 0, 400, 400, 0.9, 7], [0, 0, 400, 396, 0.8, 7]]  # the second overlaps the first
    responder_for("retinanet", tuple(outputs))(lg, 4).complete([21], [40], outputs)
    np.testing.assert_allclose(np.frombuffer(lg.answers[0][1], np.float32), [40, 0, 0, 0.5, 0.5, 0.9, 7], rtol=1e-6)


def test_nvidias_record_is_passed_on_with_the_samples_index() -> None:
    record = np.zeros((2, 7 * 3 + 1), np.float32)
    record[0, :7], record[0, -1] = [99, 0.1, 0.2, 0.3, 0.4, 0.9, 12], 1
    lg = Recorder(module)
    outputs = {"nmsopt_output": record}
    responder_for("retinanet", tuple(outputs))(lg, 2).complete([1, 2], [70, 71], outputs)
    np.testing.assert_allclose(
        np.frombuffer(lg.answers[0][1], np.float32), [70, 0.1, 0.2, 0.3, 0.4, 0.9, 12], rtol=1e-6
    )
    assert lg.answers[1] == (2, b"")
    assert record[0, 0] == 99  # the session's memory is not written to


@pytest.mark.parametrize(("network", "outputs"), [("resnet50", ("logits",)), ("retinanet", ("cls_0", "box_0"))])
def test_outputs_without_answers_are_refused(network: str, outputs: tuple[str, ...]) -> None:
    with pytest.raises(UnsupportedError, match=f"with the outputs {', '.join(outputs)} has no classes or detections"):
        responder_for(network, outputs)
