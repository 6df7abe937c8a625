"""Detections from an engine's output arrays, on the host: reads every output layout, finishes what is marked inexact.

Needs numpy only, so that users of an engine can take it along.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cmx4trt.networks.retinanet.nms import LEAST_UNION, is_power_of_two

if TYPE_CHECKING:
    from cmx4trt.networks.retinanet.details import Detector
    from cmx4trt.networks.retinanet.spec import DetectorSpec

    Array = Any

RECORD = 7
"""Numbers in a record of NVIDIA's layout: free, ymin, xmin, ymax, xmax, score, label."""


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """One image's detections, best first: ``boxes`` [n, 4] float32 (x1, y1, x2, y2 in pixels), ``scores`` [n] float32,
    ``labels`` [n] int32; ``inexact`` says that the engine's suppression did not settle and nothing finished it."""

    boxes: Array
    scores: Array
    labels: Array
    inexact: bool = False

    def __len__(self) -> int:
        """How many there are."""
        return len(self.scores)


def detections_from_outputs(
    outputs: Mapping[str, Array], spec: DetectorSpec, offset: bool = True, detector: Detector | None = None
) -> list[Detections]:
    """Each image's detections from an engine's outputs, whatever the layout.

    ``outputs``: ``boxes``, ``scores``, … (images marked inexact are finished from ``candidates``), or ``nmsopt_output``, or
    the head tensors. The latter two need ``detector`` for image size and anchors. ``offset`` is the engine's ``nms_offset``.
    """
    if "boxes" in outputs:
        return [
            finish_detections(outputs["candidates"][i], spec, offset) if inexact else _from_tensors(outputs, i)
            for i, inexact in enumerate(outputs["inexact"])
        ]
    if detector is None:
        raise TypeError("records and head tensors are read with the detector's image size and anchors; give detector")
    if "nmsopt_output" in outputs:
        size = (detector.image_height, detector.image_width)
        return [detections_from_record(record, size) for record in outputs["nmsopt_output"]]
    return [
        finish_detections(candidates_from_heads(outputs, i, detector), spec, offset)
        for i in range(len(outputs["cls_0"]))
    ]


def _from_tensors(outputs: Mapping[str, Array], image: int) -> Detections:
    count = int(outputs["num"][image])
    return Detections(*(outputs[name][image][:count] for name in ("boxes", "scores", "labels")))


def detections_from_record(record: Array, image_size: tuple[int, int]) -> Detections:
    """The detections in one image's ``nmsopt_output`` [7 D + 1] float32; ``image_size`` is (height, width)."""
    import numpy as np

    count = int(record[-1])
    rows = record[:-1].reshape(-1, RECORD)[:count]
    height, width = image_size
    boxes = rows[:, [2, 1, 4, 3]] * np.array([width, height, width, height], np.float32)
    return Detections(boxes, rows[:, 5], rows[:, 6].astype(np.int32), bool(count and rows[0, 0]))


def finish_detections(candidates: Array, spec: DetectorSpec, offset: bool = True) -> Detections:
    """Exact greedy suppression of one image's ``candidates`` [T, 6] float32 (x1, y1, x2, y2, score, label), sorted by score.

    Float32 arithmetic in the order of the graph's, so equal to the graph wherever that has settled. Takes about as many
    vector operations on T boxes as there are detections.
    """
    import numpy as np

    rows = candidates[candidates[:, 4] > np.float32(spec.score_threshold)]
    boxes, labels = rows[:, :4], rows[:, 5]
    if offset and len(rows):
        boxes = boxes + labels[:, None] * (boxes.max() + np.float32(1))
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    alive = np.ones(len(rows), bool)
    kept: list[int] = []
    for i in range(len(rows)):
        if not alive[i]:
            continue
        kept.append(i)
        if len(kept) == spec.detections:
            break
        rest = boxes[i + 1 :]
        low, high = np.maximum(boxes[i, :2], rest[:, :2]), np.minimum(boxes[i, 2:], rest[:, 2:])
        sides = np.maximum(high - low, np.float32(0))
        intersection = sides[:, 0] * sides[:, 1]
        overlaps = _is_above(intersection, areas[i] + areas[i + 1 :] - intersection, spec.iou_threshold)
        alive[i + 1 :] &= ~(overlaps & (labels[i + 1 :] == labels[i]))
    chosen = rows[kept]
    return Detections(chosen[:, :4], chosen[:, 4], chosen[:, 5].astype(np.int32))


def _is_above(intersection: Array, union: Array, limit: float) -> Array:
    """Bool [n]: is intersection / union, as the graph rounds it, above the limit?"""
    import numpy as np

    if is_power_of_two(limit):
        return intersection > union * np.float32(limit)
    return intersection / np.maximum(union, np.float32(LEAST_UNION)) > np.float32(limit)


def candidates_from_heads(outputs: Mapping[str, Array], image: int, detector: Detector) -> Array:
    """One image's sorted candidates [T, 6] float32 from the head tensors.

    ``outputs``: ``cls_<l>`` [N, A * K, H, W] and ``box_<l>`` [N, A * 4, H, W] for each level l.
    """
    import numpy as np

    spec = detector.spec
    boxes, logits, labels = [], [], []
    for number, level in enumerate(detector.levels):
        positions = level.positions
        by_anchor = outputs[f"cls_{number}"][image].astype(np.float32, copy=False).reshape(-1, spec.classes, positions)
        # The anchors with the best classes first: sorting all logits of a level takes a second.
        rows = _largest(by_anchor.max(axis=1).reshape(-1), min(spec.candidates, len(level.anchors)))
        table = by_anchor[rows // positions, :, rows % positions]
        pairs = _largest(table.reshape(-1), detector.level_candidates(level))
        row, label = rows[pairs // spec.classes], pairs % spec.classes
        offsets = outputs[f"box_{number}"][image].astype(np.float32).reshape(-1, 4, positions)
        boxes.append(_decoded(offsets[row // positions, :, row % positions], level.anchors[row], detector))
        logits.append(table.reshape(-1)[pairs])
        labels.append(label.astype(np.float32))
    with np.errstate(over="ignore"):  # of logits below -88, whose score is 0
        scores = np.float32(1) / (np.float32(1) + np.exp(-np.concatenate(logits)))
    rows = np.column_stack([np.concatenate(boxes), scores, np.concatenate(labels)]).astype(np.float32)
    return rows[np.argsort(-scores, kind="stable")]


def _largest(values: Array, count: int) -> Array:
    """Indices of the ``count`` largest values [n], largest first, of equal ones the first first."""
    import numpy as np

    least = -np.partition(-values, count - 1)[count - 1]
    if np.isnan(least):
        return np.argsort(-values, kind="stable")[:count]
    above = np.flatnonzero(values > least)
    best = np.concatenate([above, np.flatnonzero(values == least)[: count - len(above)]])
    return best[np.lexsort((best, -values[best]))]


def _decoded(offsets: Array, anchors: Array, detector: Detector) -> Array:
    """Clipped boxes [k, 4] from offsets and anchors [k, 4], with the graph's roundings."""
    import numpy as np

    sizes = anchors[:, 2:] - anchors[:, :2]
    centers = anchors[:, :2] + np.float32(0.5) * sizes
    middle = offsets[:, :2] * sizes + centers
    reach = np.exp(np.minimum(offsets[:, 2:], np.float32(detector.spec.max_log_ratio))) * sizes * np.float32(0.5)
    border = np.array([detector.image_width, detector.image_height] * 2, np.float32)
    return np.minimum(np.maximum(np.concatenate([middle - reach, middle + reach], axis=1), np.float32(0)), border)
