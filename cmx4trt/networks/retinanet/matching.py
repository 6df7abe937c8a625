"""Compares two lists of one image's detections: which agree, and whether rounding explains the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmx4trt.networks.retinanet.detections import Detections
    from cmx4trt.networks.retinanet.spec import DetectorSpec

    Array = Any

SCORE_TOLERANCE = 1e-5
"""Largest difference of two float32 scores that counts as rounding: convolutions summed in another order give about 1e-6."""
BOX_TOLERANCE = 0.05
"""Largest difference of two float32 boxes in pixels: an offset's rounding (1e-6) times anchor sizes up to 10^3 and exp's
slope up to 62 gives 6e-2 at worst, 3e-3 was measured."""
COORDINATE_ROUNDING = 1 / 64
"""Pixels by which suppression may see coordinates rounded: moving 264 classes of up to 800 pixels apart needs numbers up to
2^18, whose float32 steps are 1/64."""
TIED_SHARE = 0.5
"""Share of candidates with the score of another one, up to rounding, from which on detections are chance. Of five thousand scores
that are spread 5 % have."""
SAME_IOU = 0.5
"""Boxes that overlap at least so much and have the same label count as the same detection (PASCAL VOC's criterion)."""
EXPLAINED_LIMIT = 0.01
"""Largest share of detections without a partner, even where rounding explains each of them."""
MOST_BY_ROUNDING = 0.1
"""Largest share of detections that rounding may change: of answers to made-up heads, which are about 30 to 100."""
NEAR_PIXELS = 1.0
"""Boxes this close in every coordinate are the same; below that size overlap says nothing (without area it is 0)."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two lists compared: ``pairs`` agree, ``explained`` and ``unexplained`` count those of either list that have no partner."""

    pairs: int
    explained: int
    unexplained: int
    score_error: float
    box_error: float

    @property
    def agrees(self) -> bool:
        """Whether rounding explains every difference, and there are few."""
        total = self.pairs + self.explained + self.unexplained
        return self.unexplained == 0 and self.explained <= EXPLAINED_LIMIT * max(total, 1)


def answers_agree(agreement: Agreement) -> bool:
    """Whether two answers to made-up heads are the same, but for few that rounding changes."""
    total = agreement.pairs + agreement.explained + agreement.unexplained
    return agreement.unexplained == 0 and agreement.pairs > 0 and agreement.explained <= MOST_BY_ROUNDING * total


def total_agreement(agreements: Sequence[Agreement]) -> Agreement:
    """Of several images."""
    return Agreement(
        pairs=sum(a.pairs for a in agreements),
        explained=sum(a.explained for a in agreements),
        unexplained=sum(a.unexplained for a in agreements),
        score_error=max((a.score_error for a in agreements), default=0.0),
        box_error=max((a.box_error for a in agreements), default=0.0),
    )


def compare_exactly(expected: Detections, found: Detections, spec: DetectorSpec) -> Agreement:
    """Partners have one label, the same box and score up to rounding. What is left must hang on a decision that rounding tips."""
    import numpy as np

    boxes = np.abs(expected.boxes[:, None] - found.boxes[None]).max(axis=2)
    scores = np.abs(expected.scores[:, None] - found.scores[None])
    same = expected.labels[:, None] == found.labels[None]
    pairs = _partners((boxes <= BOX_TOLERANCE) & (scores <= SCORE_TOLERANCE) & same, boxes + scores)
    rows, columns = (np.array(side, int) for side in (list(pairs), list(pairs.values())))
    left = (
        _Side(expected, sorted(set(range(len(expected))) - set(pairs))),
        _Side(found, sorted(set(range(len(found))) - set(pairs.values()))),
    )
    explained = sum(_explained(left, spec))
    return Agreement(
        pairs=len(pairs),
        explained=explained,
        unexplained=sum(len(side.open) for side in left) - explained,
        score_error=float(scores[rows, columns].max(initial=0.0)),
        box_error=float(boxes[rows, columns].max(initial=0.0)),
    )


def are_tied(rows: Sequence[Array], threshold: float) -> bool:
    """Whether of images' candidates [T, 6], sorted, those above the threshold mostly have one score, up to rounding."""
    import numpy as np

    scores = [candidates[:, 4][candidates[:, 4] > threshold] for candidates in rows]
    tied = [(-np.diff(of_image) <= SCORE_TOLERANCE).mean() for of_image in scores if len(of_image) > 1]
    return bool(tied) and bool(max(tied) > TIED_SHARE)


def found_again(expected: Sequence[Detections], found: Sequence[Detections]) -> tuple[int, int]:
    """How many detections of ``expected``'s images are among those of ``found``'s, and how many there are."""
    pairs = (match_by_overlap(wanted, got, SAME_IOU) for wanted, got in zip(expected, found, strict=True))
    return sum(map(len, pairs)), sum(map(len, expected))


def match_by_overlap(expected: Detections, found: Detections, least_iou: float) -> dict[int, int]:
    """Partners of one label that overlap by at least ``least_iou`` or lie within NEAR_PIXELS, best scores first."""
    import numpy as np

    overlap = intersection_over_union(expected.boxes, found.boxes)
    near = np.abs(expected.boxes[:, None] - found.boxes[None]).max(axis=2) <= NEAR_PIXELS
    fits = ((overlap >= least_iou) | near) & (expected.labels[:, None] == found.labels[None])
    return _partners(fits, np.abs(expected.scores[:, None] - found.scores[None]))


def intersection_over_union(first: Array, second: Array) -> Array:
    """[n, m] of boxes [n, 4] and [m, 4]; 0 where both have no area."""
    import numpy as np

    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _overlap_rounding(boxes: Array) -> Array:
    """[n]: how far rounded coordinates may move the overlap of each box [n, 4] with another."""
    import numpy as np

    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], NEAR_PIXELS)
    return 2 * COORDINATE_ROUNDING * (1 / sides).sum(axis=1)


def _partners(fits: Array, cost: Array) -> dict[int, int]:
    """For each row in turn the cheapest column that fits and is free."""
    import numpy as np

    free = np.ones(fits.shape[1], bool)
    pairs: dict[int, int] = {}
    for row in range(len(fits)):
        candidates = np.flatnonzero(fits[row] & free)
        if len(candidates):
            column = int(candidates[np.argmin(cost[row, candidates])])
            pairs[row] = column
            free[column] = False
    return pairs


@dataclass(frozen=True, slots=True)
class _Side:
    """A list of detections and which of them have no partner."""

    all: Detections
    open: list[int]


def _floor(side: _Side, spec: DetectorSpec) -> float:
    """The score below which a list had no room for more."""
    return float(side.all.scores[-1]) if len(side.all) == spec.detections else float("-inf")


def _explained(sides: tuple[_Side, _Side], spec: DetectorSpec) -> list[bool]:
    """For the open detections of both sides: does rounding, or another explained one, account for it?"""
    import numpy as np

    boxes, scores, labels = (
        np.concatenate([getattr(side.all, name)[side.open] for side in sides]) for name in ("boxes", "scores", "labels")
    )
    clear = np.abs(scores - spec.score_threshold) <= SCORE_TOLERANCE
    floors = np.concatenate([np.full(len(side.open), _floor(other, spec)) for side, other in (sides, sides[::-1])])
    clear |= scores <= floors + SCORE_TOLERANCE
    for side in sides:
        overlap = intersection_over_union(boxes, side.all.boxes)
        same = labels[:, None] == side.all.labels[None]
        tipped = np.abs(overlap - spec.iou_threshold) <= _overlap_rounding(boxes)[:, None]
        gaps = np.abs(scores[:, None] - side.all.scores[None])
        swapped = (
            (overlap > spec.iou_threshold)
            & (gaps <= SCORE_TOLERANCE)
            & ((boxes[:, None] != side.all.boxes[None]).any(2))
        )
        clear |= (same & (tipped | swapped)).any(axis=1)
    related = (intersection_over_union(boxes, boxes) > spec.iou_threshold) & (labels[:, None] == labels[None])
    for _ in range(len(clear)):  # what an explained one suppresses, or no longer does, is explained too
        grown = clear | (related & clear[None]).any(axis=1)
        if (grown == clear).all():
            break
        clear = grown
    return [bool(value) for value in clear]
