"""Top-1 and mAP from LoadGen's accuracy log."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmx4trt.errors import DataError, MissingSoftwareError
from cmx4trt.networks import network_of
from cmx4trt.networks.classification.accuracy import top1_of_answers
from cmx4trt.networks.retinanet.accuracy import import_pycocotools, map_of_answers
from cmx4trt.verify.accuracy import NO_VERDICT, accuracy_of, read_accuracy_log, unmeasured


def log_of(tmp_path: Path, entries: list[tuple[int, Any]]) -> str:
    path = tmp_path / "mlperf_log_accuracy.json"
    rows = [{"seq_id": n, "qsl_idx": i, "data": a.tobytes().hex().upper()} for n, (i, a) in enumerate(entries)]
    path.write_text(json.dumps(rows))
    return str(path)


def classes(*values: int) -> Any:
    return np.array(values, np.int32)


def test_top1_counts_each_sample_once(tmp_path: Path) -> None:
    answers = read_accuracy_log(log_of(tmp_path, [(2, classes(7)), (0, classes(5)), (2, classes(0)), (1, classes(1))]))
    assert top1_of_answers(answers, [5, 6, 7, 8]) == pytest.approx(100 * 2 / 3)


def test_answers_that_are_no_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"answers of \[8\] bytes, expected 4-byte class indices"):
        top1_of_answers(read_accuracy_log(log_of(tmp_path, [(0, classes(1, 2))])), [1])
    with pytest.raises(DataError, match="answers sample 3, but there are 2 labels"):
        top1_of_answers(read_accuracy_log(log_of(tmp_path, [(3, classes(1))])), [1, 2])


@pytest.mark.parametrize("text", ["[\n]", "[", '[{"qsl_idx": 1}]', '[{"qsl_idx": 1, "data": "XY"}]'])
def test_a_log_without_answers_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "log.json"
    path.write_text(text)
    with pytest.raises(DataError, match="accuracy log"):
        read_accuracy_log(str(path))


def test_verdicts_are_given_for_the_complete_set_only() -> None:
    assert accuracy_of(network_of("resnet50"), 75.70, 50000, True).verdict == "passed"
    assert accuracy_of(network_of("resnet50"), 75.68, 50000, True).verdict == "failed"
    partial = accuracy_of(network_of("resnet50"), 99.0, 500, False).to_dict()
    assert partial["verdict"] == "none"
    assert "complete validation set" in partial["note"]
    assert accuracy_of(network_of("retinanet"), 37.20, 24781, True).verdict == "passed"
    assert accuracy_of(network_of("retinanet"), 37.19, 24781, True).verdict == "failed"


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
