"""mAP of what was answered."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from cmx4trt.errors import DataError, MissingSoftwareError
from cmx4trt.networks.retinanet.accuracy import import_pycocotools, map_of_answers
from cmx4trt.verify.accuracy import NO_VERDICT, unmeasured

BOXES = [[10, 20, 30, 40], [50, 60, 20, 20], [5, 5, 50, 80]]  # x, y, width, height
"""One object in each of three images, of categories 0, 1, 0."""


SIZES = [(100, 200), (100, 100), (200, 100)]  # height, width


@pytest.fixture
def annotations() -> dict[str, Any]:
    pytest.importorskip("pycocotools", reason="pycocotools is not installed (pip install 'cmx4trt[bench]')")
    images = [{"id": 10 + i, "file_name": f"{i}.jpg", "height": h, "width": w} for i, (h, w) in enumerate(SIZES)]
    objects = [
        {"id": i + 1, "image_id": 10 + i, "category_id": i % 2, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for i, box in enumerate(BOXES)
    ]
    categories = [{"id": i, "name": str(i)} for i in range(2)]
    return {"images": images, "annotations": objects, "categories": categories}


def record(index: int, box: list[float], score: float, label: int) -> list[float]:
    (height, width), (x, y, w, h) = SIZES[index], box
    return [index, y / height, x / width, (y + h) / height, (x + w) / width, score, label]


def answer(*records: list[float]) -> bytes:
    return np.array(records, np.float32).tobytes()


def test_exact_detections_score_one_hundred(annotations: dict[str, Any]) -> None:
    answers = {i: answer(record(i, box, 0.9, i % 2)) for i, box in enumerate(BOXES)}
    assert map_of_answers(answers, annotations, [0, 1, 2]) == pytest.approx(100)


def test_a_wrong_label_costs_its_category(annotations: dict[str, Any]) -> None:
    answers = {i: answer(record(i, box, 0.9, 0)) for i, box in enumerate(BOXES)}
    # Category 1 finds nothing; category 0 finds both of its objects, with equal score one false in between.
    assert 30 < map_of_answers(answers, annotations, [0, 1, 2]) < 50.1


def test_a_shifted_box_counts_at_the_overlaps_it_reaches(annotations: dict[str, Any]) -> None:
    answers = {i: answer(record(i, box, 0.9, i % 2)) for i, box in enumerate(BOXES)}
    x, y, w, h = BOXES[1]
    answers[1] = answer(record(1, [x, y, w, h * 0.72], 0.9, 1))  # IoU 0.72: five of the ten thresholds
    assert map_of_answers(answers, annotations, [0, 1, 2]) == pytest.approx((100 + 50) / 2)


def test_images_without_detections_and_subsets(annotations: dict[str, Any]) -> None:
    assert map_of_answers({0: b"", 1: b""}, annotations, [0, 1, 2]) == 0.0
    only_second = {0: answer([0.0, *record(1, BOXES[1], 0.9, 1)[1:]])}
    assert map_of_answers(only_second, annotations, [1]) == pytest.approx(100)  # the other images do not count
    missed = {0: answer(record(0, BOXES[0], 0.9, 0)), 2: b""}
    assert map_of_answers(missed, annotations, [0, 1, 2]) == pytest.approx(50, abs=1)  # one of two of category 0


def test_what_is_not_this_runs_log_is_refused(annotations: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="expected a multiple of 28"):
        map_of_answers({0: b"1234"}, annotations, [0])
    with pytest.raises(DataError, match="refers to sample 1"):
        map_of_answers({0: answer(record(1, BOXES[1], 0.9, 1))}, annotations, [0, 1, 2])
    with pytest.raises(DataError, match="answers sample 1, for which the annotation file has no image"):
        map_of_answers({1: b""}, annotations, [0])


def test_images_without_objects_have_no_precision(annotations: dict[str, Any]) -> None:
    annotations["annotations"][0]["iscrowd"] = 1
    del annotations["annotations"][1]
    detected = {0: answer(record(0, BOXES[0], 0.9, 0)), 1: answer(record(1, BOXES[1], 0.9, 1))}
    assert map_of_answers(detected, annotations, [0, 1, 2]) is None  # pycocotools says -1
    assert map_of_answers({0: b"", 1: b""}, annotations, [0, 1, 2]) is None
    assert map_of_answers({**detected, 2: b""}, annotations, [0, 1, 2]) == 0.0
    assert unmeasured(2, "why").to_dict() == {"images": 2, "verdict": NO_VERDICT, "note": "why"}


def test_missing_pycocotools_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(MissingSoftwareError, match=r"pip install .*\[bench\]'"):
        import_pycocotools()
