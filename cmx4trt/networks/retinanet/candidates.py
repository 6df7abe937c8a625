"""From head tensors to each level's best pairs of box and class, without sorting all logits.

All logits of a level are [N, A * K, H, W] (23.8 M for P3), and TopK over all of them needs 2 GB of scratch at batch 16. Two
steps give the same pairs: the anchors with the best classes first, then the best pairs of those. An anchor outside the
best ``candidates`` by its best class has at least that many pairs ahead of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from cmx4trt.ir.model import DType
from cmx4trt.ir.writer import GraphWriter
from cmx4trt.networks.retinanet.details import Detector, Level


@dataclass(frozen=True, slots=True)
class LevelPairs:
    """The best pairs of one level: values of shape [N, k], ``offsets`` of shape [N, k, 4].

    ``logits`` float32 descending, ``labels`` int64, ``anchors`` int64 rows of the level's anchor table,
    ``offsets`` float32 (dx, dy, log dw, log dh).
    """

    logits: str
    labels: str
    anchors: str
    offsets: str


def write_level_pairs(write: GraphWriter, detector: Detector, level: Level, logits: str, offsets: str) -> LevelPairs:
    """Append the selection of one level's pairs from ``logits`` [N, A * K, H, W] and ``offsets`` [N, A * 4, H, W].

    These may be of any float type; what is taken from them becomes float32.
    """
    import numpy as np

    classes, positions = detector.spec.classes, level.positions
    anchors = detector.spec.anchors_per_location * positions
    by_anchor = write.reshape(logits, 0, detector.spec.anchors_per_location, classes, positions)
    best_class = write.cast(write.op("ReduceMax", by_anchor, write.ints(2), keepdims=0), DType.FLOAT)
    # Row s = a * H * W + position, as in the anchor table.
    row = write.top_k(write.reshape(best_class, 0, anchors), min(detector.spec.candidates, anchors))[1]
    # The anchor's class c is element s + a * (K - 1) * H * W + c * H * W of the level's logits.
    anchor = write.op("Div", row, write.integer(positions))
    first = write.op("Add", row, write.op("Mul", anchor, write.integer((classes - 1) * positions)))
    steps = write.constant(np.arange(classes, dtype=np.int64) * positions, "class_steps")
    element = write.op("Add", write.op("Unsqueeze", first, write.ints(2)), steps)
    flat = write.reshape(logits, 0, anchors * classes)
    pairs = write.op("GatherElements", flat, write.reshape(element, 0, -1), axis=1)
    best, pair = write.top_k(write.cast(pairs, DType.FLOAT), detector.level_candidates(level))
    slot = write.op("Div", pair, write.integer(classes))
    label = write.op("Sub", pair, write.op("Mul", slot, write.integer(classes)))
    chosen = write.op("GatherElements", row, slot, axis=1)
    return LevelPairs(best, label, chosen, _chosen_offsets(write, anchors, positions, chosen, offsets))


def _chosen_offsets(write: GraphWriter, anchors: int, positions: int, row: str, offsets: str) -> str:
    """The four offsets of each chosen anchor: elements s + a * 3 * H * W + (0 … 3) * H * W."""
    import numpy as np

    anchor = write.op("Div", row, write.integer(positions))
    first = write.op("Add", row, write.op("Mul", anchor, write.integer(3 * positions)))
    steps = write.constant(np.arange(4, dtype=np.int64) * positions, "offset_steps")
    element = write.op("Add", write.op("Unsqueeze", first, write.ints(2)), steps)
    flat = write.reshape(offsets, 0, anchors * 4)
    chosen = write.op("GatherElements", flat, write.reshape(element, 0, -1), axis=1)
    return write.reshape(write.cast(chosen, DType.FLOAT), 0, -1, 4)


def write_boxes(write: GraphWriter, detector: Detector, pairs: list[LevelPairs]) -> str:
    """Append decoding and clipping: boxes [N, T, 4] float32 (x1, y1, x2, y2 in pixels) of all levels' pairs.

    The arithmetic, and the order of its roundings, is that of torchvision's BoxCoder with weights 1
    (models/detection/_utils.py), which exported files contain.
    """
    import numpy as np

    tables = np.concatenate([level.anchors for level in detector.levels])
    sizes = tables[:, 2:] - tables[:, :2]
    centres = tables[:, :2] + np.float32(0.5) * sizes
    starts = np.cumsum([0] + [len(level.anchors) for level in detector.levels])
    rows = [
        write.op("Add", pair.anchors, write.integer(int(start))) for pair, start in zip(pairs, starts, strict=False)
    ]
    row = write.op("Concat", *rows, axis=1)
    centre = write.op("Gather", write.constant(centres, "anchor_centres"), row, axis=0)
    size = write.op("Gather", write.constant(sizes, "anchor_sizes"), row, axis=0)
    offsets = write.op("Concat", *(pair.offsets for pair in pairs), axis=1)
    move, grow = write.ops("Split", offsets, write.ints(2, 2), names=("", ""), axis=2)
    middle = write.op("Add", write.op("Mul", move, size), centre)
    grow = write.op("Min", grow, write.number(detector.spec.max_log_ratio))
    reach = write.op("Mul", write.op("Mul", write.op("Exp", grow), size), write.number(0.5))
    corners = write.op("Concat", write.op("Sub", middle, reach), write.op("Add", middle, reach), axis=2)
    border = np.array([detector.image_width, detector.image_height] * 2, np.float32)
    return write.op("Min", write.op("Max", corners, write.number(0.0)), write.constant(border, "border"))
