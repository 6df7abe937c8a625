"""Comparing lists of detections: what counts as the same, what rounding explains, what it does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmx4trt.networks.retinanet.detections import Detections, finish_detections
from cmx4trt.networks.retinanet.matching import (
    BOX_TOLERANCE,
    SCORE_TOLERANCE,
    compare_exactly,
    intersection_over_union,
    match_by_overlap,
)
from cmx4trt.networks.retinanet.spec import DETECTOR

SPEC = replace(DETECTOR, detections=6)


def detections(*rows: tuple[float, ...]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int32))


A = (0, 0, 100, 100, 0.9, 1)
B = (300, 300, 400, 400, 0.6, 2)
C = (500, 100, 600, 300, 0.3, 1)


def moved(row: tuple[float, ...], **changes: float) -> tuple[float, ...]:
    names = ("x1", "y1", "x2", "y2", "score", "label")
    return tuple(changes.get(name, value) for name, value in zip(names, row, strict=True))


def test_the_same() -> None:
    result = compare_exactly(detections(A, B, C), detections(A, B, C), SPEC)
    assert (result.pairs, result.explained, result.unexplained) == (3, 0, 0)
    assert (result.score_error, result.box_error) == (0.0, 0.0)


def test_rounding_and_order() -> None:
    other = detections(C, moved(A, score=0.9 + SCORE_TOLERANCE / 2), moved(B, x1=300 + BOX_TOLERANCE / 2))
    result = compare_exactly(detections(A, B, C), other, SPEC)
    assert result.pairs == 3
    assert result.score_error == pytest.approx(SCORE_TOLERANCE / 2, rel=0.02)
    assert result.box_error == pytest.approx(BOX_TOLERANCE / 2, rel=0.01)


@pytest.mark.parametrize("changed", [moved(B, label=3), moved(B, score=0.6 + 3 * SCORE_TOLERANCE), moved(B, x1=360)])
def test_another_one(changed: tuple[float, ...]) -> None:
    result = compare_exactly(detections(A, B, C), detections(A, changed, C), SPEC)
    assert (result.pairs, result.explained, result.unexplained) == (2, 0, 2)


def test_one_missing_one_added() -> None:
    assert compare_exactly(detections(A, B), detections(A), SPEC).unexplained == 1
    assert compare_exactly(detections(A), detections(A, B), SPEC).unexplained == 1


def test_nothing_at_all() -> None:
    empty = detections()
    assert compare_exactly(empty, empty, SPEC).unexplained == 0
    assert compare_exactly(empty, detections(A), SPEC).unexplained == 1
    assert match_by_overlap(empty, detections(A), 0.9) == {}


def test_a_score_at_the_threshold_is_explained() -> None:
    edge = moved(C, score=0.05 + SCORE_TOLERANCE / 2)
    assert compare_exactly(detections(A, edge), detections(A), SPEC).explained == 1


def test_what_a_full_list_had_no_room_for_is_explained() -> None:
    first = [moved(A, x1=200 * k, x2=200 * k + 100, score=0.9 - 0.1 * k) for k in range(6)]
    flip = (0, 0, 100, 200, 0.85, 1)  # at the limit with A
    result = compare_exactly(detections(first[0], flip, *first[1:5]), detections(*first), SPEC)
    assert (result.pairs, result.explained, result.unexplained) == (5, 2, 0)


def test_the_last_place_is_explained_where_the_list_is_full() -> None:
    first = [moved(A, x1=200 * k, x2=200 * k + 100, score=0.9 - 0.1 * k) for k in range(5)]
    last, rival = moved(C, score=0.2), moved(B, score=0.2 + SCORE_TOLERANCE / 4)
    result = compare_exactly(detections(*first, last), detections(*first, rival), SPEC)
    assert (result.pairs, result.explained, result.unexplained) == (5, 2, 0)
    roomy = replace(SPEC, detections=7)
    assert compare_exactly(detections(*first, last), detections(*first, rival), roomy).unexplained == 2


def test_an_overlap_at_the_limit_is_explained() -> None:
    # 100 x 100 and 100 x 200 share 100 x 100: exactly one half.
    rival = (0, 0, 100, 200, 0.5, 1)
    result = compare_exactly(detections(A, rival), detections(A), SPEC)
    assert (result.explained, result.unexplained) == (1, 0)
    clear = (0, 0, 100, 250, 0.5, 1)
    assert compare_exactly(detections(A, clear), detections(A), SPEC).unexplained == 1


def test_two_of_equal_score_may_change_places() -> None:
    twin = moved(A, x1=10, x2=110, score=0.9 + SCORE_TOLERANCE / 2)
    result = compare_exactly(detections(A), detections(twin), SPEC)
    assert (result.explained, result.unexplained) == (2, 0)
    assert compare_exactly(detections(A), detections(moved(twin, score=0.91)), SPEC).unexplained == 2


def test_what_an_explained_one_suppresses_is_explained() -> None:
    rival = (0, 0, 100, 200, 0.5, 1)  # at the limit with A
    third = (0, 20, 100, 210, 0.4, 1)  # far above the limit with the rival
    result = compare_exactly(detections(A, rival), detections(A, third), SPEC)
    assert (result.explained, result.unexplained) == (2, 0)


def test_overlap_against_a_loop() -> None:
    random = np.random.default_rng(0)
    low = random.uniform(0, 20, (9, 2))
    boxes = np.concatenate([low, low + random.uniform(0, 15, (9, 2))], axis=1).astype(np.float32)
    boxes[3, 2:] = boxes[3, :2]
    found = intersection_over_union(boxes, boxes)
    for i, a in enumerate(boxes):
        for j, b in enumerate(boxes):
            width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            shared = max(width, 0) * max(height, 0)
            union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
            assert found[i, j] == pytest.approx(shared / union if union else 0.0, abs=1e-5)


def test_partners_by_overlap() -> None:
    near = moved(A, x1=2, x2=102, score=0.2)
    assert match_by_overlap(detections(A, B), detections(B, near), 0.9) == {0: 1, 1: 0}
    assert match_by_overlap(detections(A, B), detections(B, moved(near, label=5)), 0.9) == {1: 0}
    flat = (5, 5, 5, 9, 0.5, 1)
    assert match_by_overlap(detections(flat), detections(moved(flat, x2=5.5)), 0.9) == {0: 0}
    assert match_by_overlap(detections(A, A), detections(A), 0.9) == {0: 0}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), noise=st.sampled_from([0.0, 1e-6]))
def test_suppression_of_rounded_scores_is_always_explained(seed: int, noise: float) -> None:
    """What the comparison is for: the same boxes with scores rounded differently give lists that it accepts."""
    random = np.random.default_rng(seed)
    low = random.integers(0, 60, (60, 2))
    boxes = np.concatenate([low, low + random.integers(1, 60, (60, 2))], axis=1).astype(np.float32)
    scores = np.sort(random.choice(np.float32([0.05, 0.2, 0.2000004, 0.7]), 60))[::-1]
    rows = np.column_stack([boxes, scores, random.integers(0, 2, 60)]).astype(np.float32)
    other = rows.copy()
    other[:, 4] += random.uniform(-noise, noise, 60)
    other = other[np.argsort(-other[:, 4], kind="stable")]
    lists = [finish_detections(table, replace(DETECTOR, detections=20)) for table in (rows, other)]
    result = compare_exactly(*lists, replace(DETECTOR, detections=20))
    assert result.unexplained == 0
    assert noise or result.explained == 0


def test_a_shifted_box_counts_as_changed() -> None:
    """It might be its neighbour of equal score: explained, but only a hundredth of all may be."""
    result = compare_exactly(detections(A, B), detections(A, moved(B, x1=300 + 3 * BOX_TOLERANCE)), SPEC)
    assert (result.pairs, result.explained, result.unexplained) == (1, 2, 0)
