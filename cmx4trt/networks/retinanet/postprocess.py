"""From the ten head tensors to an engine's outputs."""

from __future__ import annotations

from cmx4trt.graph.network import BATCH, CanonicalGraph
from cmx4trt.graph.options import GraphOptions
from cmx4trt.ir.model import DType, ValueInfo
from cmx4trt.ir.writer import GraphWriter
from cmx4trt.networks.retinanet.candidates import write_boxes, write_level_pairs
from cmx4trt.networks.retinanet.details import Detector, head_names
from cmx4trt.networks.retinanet.nms import COLUMNS, write_rows, write_sorted, write_suppression
from cmx4trt.networks.retinanet.options import NVIDIA_RECORDS, RAW, RetinaNetOptions

BOXES, SCORES, LABELS, COUNT, INEXACT, CANDIDATES = "boxes", "scores", "labels", "num", "inexact", "candidates"
RECORDS = "nmsopt_output"
"""Name of the output of NVIDIA's NMS plugin, whose layout ``mlperf-nvidia`` has."""
PADDING = (0.0, 0.0, 0.0, 0.0, 0.0, -1.0)
"""The candidate that fills the places behind an image's last detection: no area, no score, no class."""
RECORD_ORDER = (1, 0, 3, 2, 4, 5)
"""Our columns in the order of NVIDIA's record: ymin, xmin, ymax, xmax, score, label."""


def attach_outputs(network: CanonicalGraph, request: GraphOptions) -> None:
    """Append the post-processing that the request asks for to ``network`` and declare the engine's outputs.

    ``tensors``: ``boxes`` [N, D, 4] float32 (x1, y1, x2, y2 in pixels), ``scores`` [N, D] float32 falling, ``labels``
    [N, D] int32, padded with 0, 0 and -1; ``num`` [N] int32, how many are detections; ``inexact`` [N] int32, 1 where the
    suppression did not settle within its steps; ``candidates`` [N, T, 6] float32 (box, score, label), sorted by score,
    from which ``networks.retinanet.detections`` finishes such an image. D = 1000, T = 5000.
    ``mlperf-nvidia``: ``nmsopt_output`` [N, 7001] float32, D records (``inexact``, ymin, xmin, ymax, xmax as fractions of
    the image, score, label) and the count. ``none``: the head tensors.

    Whatever the heads compute in, everything behind them is float32.
    """
    graph, own = network.model.graph, RetinaNetOptions.of(request)
    if own.postprocess == RAW:
        return
    detector = network.details
    if not isinstance(detector, Detector):
        raise TypeError(f"{network.spec.title} was not prepared as a detector")
    write = GraphWriter(graph, "detect_")
    rows, scores = _candidates(write, detector)
    # Fresh values are computed first: an output read by other nodes keeps its name.
    candidates = write_sorted(write, rows, scores, detector.candidates, CANDIDATES)
    suppressed = write_suppression(write, detector, candidates, own.nms_offset)
    best, order = write.top_k(suppressed.ranks, detector.spec.detections)
    found = write.op("Greater", write.op("Unsqueeze", best, write.ints(2)), write.number(0.0))
    chosen = write.op("Where", found, write_rows(write, candidates, order), _padding(write))
    count = write.op("ReduceSum", write.cast(found, DType.FLOAT), write.ints(1, 2), keepdims=0)
    if own.postprocess == NVIDIA_RECORDS:
        graph.outputs = _write_records(write, detector, chosen, count, suppressed.unsettled)
    else:
        graph.outputs = _write_tensors(write, detector, chosen, count, suppressed.unsettled)
    graph.prune()


def _candidates(write: GraphWriter, detector: Detector) -> tuple[str, str]:
    """All levels' candidates [N, T, 6] and their scores [N, T]."""
    classes, boxes = ([_uncast(write, name) for name in names] for names in head_names(len(detector.levels)))
    pairs = [
        write_level_pairs(write, detector, level, logits, offsets)
        for level, logits, offsets in zip(detector.levels, classes, boxes, strict=True)
    ]
    scores = write.op("Sigmoid", write.op("Concat", *(pair.logits for pair in pairs), axis=1))
    labels = write.cast(write.op("Concat", *(pair.labels for pair in pairs), axis=1), DType.FLOAT)
    columns = [write.op("Unsqueeze", value, write.ints(2)) for value in (scores, labels)]
    return write.op("Concat", write_boxes(write, detector, pairs), *columns, axis=2), scores


def _uncast(write: GraphWriter, head: str) -> str:
    """What a Cast makes the float32 head tensor of: casting 32 M logits before most are dropped costs gigabytes."""
    for node in write.graph.nodes:
        if node.outputs[0] == head and node.op_type == "Cast":
            return node.inputs[0]
    return head


def _padding(write: GraphWriter) -> str:
    import numpy as np

    return write.constant(np.array(PADDING, np.float32), "padding")


def _write_tensors(write: GraphWriter, detector: Detector, rows: str, count: str, unsettled: str) -> list[ValueInfo]:
    places = detector.spec.detections
    _, scores, labels = write.ops("Split", rows, write.ints(4, 1, 1), names=(BOXES, "", ""), axis=2)
    write.op("Squeeze", scores, write.ints(2), name=SCORES)
    write.cast(write.op("Squeeze", labels, write.ints(2)), DType.INT32, name=LABELS)
    write.cast(count, DType.INT32, name=COUNT)
    write.cast(unsettled, DType.INT32, name=INEXACT)
    return [
        ValueInfo(BOXES, DType.FLOAT, (BATCH, places, 4)),
        ValueInfo(SCORES, DType.FLOAT, (BATCH, places)),
        ValueInfo(LABELS, DType.INT32, (BATCH, places)),
        ValueInfo(COUNT, DType.INT32, (BATCH,)),
        ValueInfo(INEXACT, DType.INT32, (BATCH,)),
        ValueInfo(CANDIDATES, DType.FLOAT, (BATCH, detector.candidates, COLUMNS)),
    ]


def _write_records(write: GraphWriter, detector: Detector, rows: str, count: str, unsettled: str) -> list[ValueInfo]:
    """NVIDIA's record for each place; its first number is free there (its harness writes the sample's id into it)."""
    import numpy as np

    places = detector.spec.detections
    height, width = detector.image_height, detector.image_width
    ordered = write.op("Gather", rows, write.constant(np.array(RECORD_ORDER, np.int64), "record_order"), axis=2)
    size = write.constant(np.array([height, width, height, width, 1, 1], np.float32), "image_size")
    relative = write.op("Div", ordered, size)
    zeros = write.constant(np.zeros((1, places, 1), np.float32), "zeros")
    flags = write.op("Add", write.reshape(unsettled, -1, 1, 1), zeros)
    records = write.reshape(write.op("Concat", flags, relative, axis=2), 0, -1)
    write.op("Concat", records, write.op("Unsqueeze", count, write.ints(1)), axis=1, name=RECORDS)
    return [ValueInfo(RECORDS, DType.FLOAT, (BATCH, places * (COLUMNS + 1) + 1))]
