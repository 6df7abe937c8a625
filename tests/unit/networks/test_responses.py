"""What LoadGen is told: the bytes of classes and detections."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from cmx4trt.errors import UnsupportedError
from cmx4trt.networks import network_of
from cmx4trt.networks.base import ResponderFactory
from cmx4trt.networks.classification.responses import ClassResponder
from cmx4trt.requests.build import BuildRequest

module = pytest.importorskip("mlperf_loadgen", reason="LoadGen is not installed (pip install 'cmx4trt[bench]')")


def responder_for(network: str, outputs: tuple[str, ...], classes: int = 1000) -> ResponderFactory:
    declared = [{"name": "logits", "shape": ["N", classes]}]
    return network_of(network).answers(declared, BuildRequest.from_values({"network": network}))(outputs)


class Recorder:
    """mlperf_loadgen, but completion copies what LoadGen would have copied."""

    QuerySampleResponse = module.QuerySampleResponse

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes]] = []

    def QuerySamplesComplete(self, responses: list[Any]) -> None:  # noqa: N802
        self.answers += [(r.id, ctypes.string_at(r.data, r.size) if r.size else b"") for r in responses]


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize(("classes", "shift"), [(1000, 0), (1001, 1)])
def test_classes_are_int32_without_the_background(dtype: Any, classes: int, shift: int) -> None:
    lg = Recorder()
    responder = responder_for("resnet50", ("logits", "class"), classes)(lg, 4)
    outputs = {"class": np.array([5, 1000, 7, 8], dtype)}
    responder.complete([11, 12, 13], [0, 1, 2], outputs)
    assert [(i, np.frombuffer(data, np.int32).tolist()) for i, data in lg.answers] == [
        (11, [5 - shift]),
        (12, [1000 - shift]),
        (13, [7 - shift]),
    ]


def test_responses_are_used_again_for_every_batch() -> None:
    lg = Recorder()
    responder = ClassResponder(lg, 2, "class", 0)
    for number in range(3):
        responder.complete([number, 10 + number], [0, 1], {"class": np.array([[number], [number + 1]])})
    assert [(i, np.frombuffer(data, np.int32)[0]) for i, data in lg.answers] == [
        (0, 0),
        (10, 1),
        (1, 1),
        (11, 2),
        (2, 2),
        (12, 3),
    ]


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
    lg, outputs = Recorder(), _tensors()
    responder_for("retinanet", tuple(outputs))(lg, 4).complete([21, 22], [40, 41], outputs)
    found = {i: np.frombuffer(data, np.float32).reshape(-1, 7) for i, data in lg.answers}
    assert found.keys() == {21, 22}  # the third row of the outputs was padding
    np.testing.assert_allclose(found[21], [[40, 0.2, 0.1, 1.0, 0.5, 0.9, 3]], rtol=1e-6)
    np.testing.assert_allclose(found[22], [[41, 0, 0, 1, 1, 0.8, 5], [41, 0.01, 0.01, 0.03, 0.02, 0.7, 6]], rtol=1e-6)


def test_an_image_whose_suppression_did_not_settle_is_finished_from_its_candidates() -> None:
    lg, outputs = Recorder(), _tensors()
    outputs["inexact"][0] = 1
    outputs["candidates"][0, :2] = [[0, 0, 400, 400, 0.9, 7], [0, 0, 400, 396, 0.8, 7]]  # the second overlaps the first
    responder_for("retinanet", tuple(outputs))(lg, 4).complete([21], [40], outputs)
    np.testing.assert_allclose(np.frombuffer(lg.answers[0][1], np.float32), [40, 0, 0, 0.5, 0.5, 0.9, 7], rtol=1e-6)


def test_nvidias_record_is_passed_on_with_the_samples_index() -> None:
    record = np.zeros((2, 7 * 3 + 1), np.float32)
    record[0, :7], record[0, -1] = [99, 0.1, 0.2, 0.3, 0.4, 0.9, 12], 1
    lg = Recorder()
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
