"""Sorting and non-maximum suppression with static shapes and standard operators (docs/decisions/010-nms-without-plugin.md).

Greedy suppression is the only fixpoint of: a box is kept unless a kept box with a better score overlaps it. From any
start, t steps settle every box whose chain of suppressors is at most t long, and two equal steps in a row prove that all
are settled. Blocks of boxes in the order of their scores are settled one after the other, so chains stay short.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import frexp

from cmx4trt.ir.writer import GraphWriter
from cmx4trt.networks.retinanet.details import Detector

MAX_TOP_K = 3840
"""Largest k of TensorRT's TopK (NvInfer.h, INetworkDefinition::addTopK)."""
COLUMNS = 6
"""A candidate's numbers: x1, y1, x2, y2, score, label."""


LEAST_UNION = 1e-30
"""Stands for the union of two boxes without area, so that 0 / 0 is 0."""


def is_power_of_two(value: float) -> bool:
    """Whether multiplying by ``value`` is exact."""
    return frexp(value)[0] == 0.5


@dataclass(frozen=True, slots=True)
class Suppressed:
    """``ranks`` [N, T] float32: T - i for the kept box in place i, 0 for the others; ``unsettled`` [N] float32: 1 or 0."""

    ranks: str
    unsettled: str


def write_sorted(write: GraphWriter, rows: str, scores: str, count: int, name: str = "", most: int = MAX_TOP_K) -> str:
    """Append sorting: ``rows`` [N, T, 6] in the order of falling ``scores`` [N, T] (>= 0), no row lost or doubled.

    TopK takes at most ``most`` of the T at once: what one has taken is marked before the next.
    """
    parts = []
    while count:
        taken = min(count, most)
        best, order = write.top_k(scores, taken)
        parts.append(order)
        count -= taken
        if count:
            below_all = write.op("Sub", write.number(-1.0), best)
            scores = write.op("ScatterElements", scores, order, below_all, axis=1)
    order = write.op("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
    return write_rows(write, rows, order, name)


def write_rows(write: GraphWriter, rows: str, order: str, name: str = "") -> str:
    """Append ``rows`` [N, T, C] in ``order`` [N, k]: [N, k, C]."""
    return write.op("GatherND", rows, write.op("Unsqueeze", order, write.ints(2)), name=name, batch_dims=1)


def write_suppression(write: GraphWriter, detector: Detector, candidates: str, offset: bool) -> Suppressed:
    """Append suppression within each class of the sorted ``candidates`` [N, T, 6].

    ``offset``: as exported files do, boxes of different classes are moved apart by a multiple of the largest coordinate
    plus one, which rounds their coordinates; else boxes are compared as they are, and only within their class.
    """
    import numpy as np

    spec, total = detector.spec, detector.candidates
    boxes, scores, labels = write.ops("Split", candidates, write.ints(4, 1, 1), names=("", "", ""), axis=2)
    valid = write.op("Greater", scores, write.number(spec.score_threshold))
    if offset:
        boxes = _moved_apart(write, boxes, labels, valid)
    key = write.constant(np.arange(total, 0, -1, dtype=np.float32).reshape(1, total, 1), "rank")
    ranks = write.op("Where", valid, key, write.number(0.0))
    corners = write.ops("Split", boxes, write.ints(1, 1, 1, 1), names=("",) * 4, axis=2)
    blocks = _Blocks(write, detector, [*corners, *([] if offset else [labels])], ranks)
    return blocks.settle()


def _moved_apart(write: GraphWriter, boxes: str, labels: str, valid: str) -> str:
    """boxes + label * (largest coordinate of a valid box + 1), as torchvision's batched_nms (ops/boxes.py)."""
    largest = write.op("ReduceMax", write.op("Where", valid, boxes, write.number(0.0)), write.ints(1, 2), keepdims=1)
    step = write.op("Add", largest, write.number(1.0))
    return write.op("Add", boxes, write.op("Mul", labels, step))


class _Blocks:
    """Settles the boxes block by block. Columns are values [N, T, 1]; a block of them is [N, B, 1] or, lying, [N, 1, B]."""

    def __init__(self, write: GraphWriter, detector: Detector, columns: list[str], ranks: str) -> None:
        self._write = write
        self._spec = detector.spec
        sizes = [self._spec.nms_block] * (detector.candidates // self._spec.nms_block)
        rest = detector.candidates - sum(sizes)
        self._sizes = sizes + [rest] * (rest > 0)
        x1, y1, x2, y2 = columns[:4]
        area = write.op("Mul", write.op("Sub", x2, x1), write.op("Sub", y2, y1))
        self._columns = [self._split(column) for column in [*columns, area]]
        self._ranks = self._split(ranks)

    def settle(self) -> Suppressed:
        """Append all blocks' steps; a block sees what the blocks before it have kept."""
        write, zero = self._write, self._write.number(0.0)
        kept: list[str] = []
        changes: list[str] = []
        for index, start in enumerate(self._ranks):
            if kept:
                start = self._survivors(self._overlaps(index, range(index)), self._joined(kept), start)
            overlaps = self._overlaps(index, range(index, index + 1))
            ranks = before = start
            for _ in range(self._spec.nms_iterations):
                before, ranks = ranks, self._survivors(overlaps, ranks, start)
            kept.append(ranks)
            changes.append(write.op("Abs", write.op("Sub", ranks, before)))
        change = write.op("ReduceMax", self._joined(changes), write.ints(1, 2), keepdims=0)
        unsettled = write.op("Where", write.op("Greater", change, zero), write.number(1.0), zero)
        return Suppressed(write.op("Squeeze", self._joined(kept), write.ints(2)), unsettled)

    def _survivors(self, overlaps: str, suppressors: str, start: str) -> str:
        """``start`` [N, B, 1] without the boxes that a better ranked one of the suppressors [N, J, 1] overlaps.

        A box overlaps itself: its own rank is not above its rank.
        """
        write, zero = self._write, self._write.number(0.0)
        above = write.op("Where", overlaps, self._lying(suppressors), zero)
        best = write.op("ReduceMax", above, write.ints(2), keepdims=1)
        return write.op("Where", write.op("Greater", best, start), zero, start)

    def _overlaps(self, index: int, others: range) -> str:
        """Bool [N, B, J]: is the intersection over union of box i of one block and box j of another above the limit?

        All pairs of full blocks have the same shape, so an engine holds the compiled code for one of them.
        """
        write = self._write
        own = [column[index] for column in self._columns]
        other = [self._lying(self._joined([column[k] for k in others])) for column in self._columns]
        sides = []
        for low, high in ((0, 2), (1, 3)):
            side = write.op("Sub", write.op("Min", own[high], other[high]), write.op("Max", own[low], other[low]))
            sides.append(write.op("Max", side, write.number(0.0)))
        intersection = write.op("Mul", *sides)
        union = write.op("Sub", write.op("Add", own[-1], other[-1]), intersection)
        overlap = self._is_above(intersection, union)
        if len(own) == len("xyxy") + 1:
            return overlap
        return write.op("And", overlap, write.op("Equal", own[4], other[4]))

    def _is_above(self, intersection: str, union: str) -> str:
        """Bool: is intersection / union, rounded to float32, above the limit?

        Without division where that is the same: for a limit that is a power of two, whose product is exact.
        """
        write, limit = self._write, self._write.number(self._spec.iou_threshold)
        if is_power_of_two(self._spec.iou_threshold):
            return write.op("Greater", intersection, write.op("Mul", union, limit))
        safe = write.op("Max", union, write.number(LEAST_UNION))
        return write.op("Greater", write.op("Div", intersection, safe), limit)

    def _split(self, column: str) -> list[str]:
        sizes = self._sizes
        return (
            [column]
            if len(sizes) == 1
            else self._write.ops("Split", column, self._write.ints(*sizes), names=("",) * len(sizes), axis=1)
        )

    def _joined(self, blocks: list[str]) -> str:
        return self._write.op("Concat", *blocks, axis=1) if len(blocks) > 1 else blocks[0]

    def _lying(self, column: str) -> str:
        """[N, 1, B] of [N, B, 1]."""
        return self._write.reshape(column, 0, 1, -1)
