"""Post-processing by itself: made-up head tensors in which there is something to find, whatever a network's own weights find.

The same heads go into the file's operators behind its heads and into the graph's. Two graphs that answer alike have the same
anchors, decoding, thresholds, suppression and classes; weights that find nothing on an image show none of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log
from typing import TYPE_CHECKING, Any

from cmx4trt.graph.execution import own_arithmetic
from cmx4trt.graph.judge.correspondence import computed_name
from cmx4trt.graph.precision import bfloat16_bits
from cmx4trt.ir.model import DType, Model, ValueInfo, node_reads
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.networks.retinanet.details import Detector, head_names
from cmx4trt.networks.retinanet.detections import Detections, detections_from_outputs
from cmx4trt.networks.retinanet.file_run import detections_of_results
from cmx4trt.networks.retinanet.matching import Agreement, answers_agree, compare_exactly
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cmx4trt.graph.network import PreparedGraph
    from cmx4trt.networks.retinanet.spec import DetectorSpec

    Arrays = Mapping[str, NDArray[Any]]

SEED = 20261126
BACKGROUND = -12.0
"""The logit where nothing is: a score of 6e-6."""
LEAST_LOGIT = -4.0
"""Where a threshold is no limit, objects begin at a score of 0.018."""
SPAN = 6.0
"""From the least logit of an object to the largest."""
MARGIN = 0.125
"""Logits this near to the threshold are left out: float32's sigmoids differ."""
MOST = 20
"""Objects of one level."""
OFFSETS = 0.3
"""Standard deviation of box offsets."""
FAR, FAR_OFFSET = 4, 5.0
"""One object of so many pairs is so wide that only the limit of sizes bounds it."""


def made_heads(detector: Detector) -> dict[str, NDArray[np.float32]]:
    """Heads [1, C, H, W] of one image, always the same; all numbers are float16's and bfloat16's, too.

    Objects have scores of their own, above the threshold and below it. Every second stands where the one before does, with
    the same class and another anchor, so that one of the two may have to go.
    """
    import numpy as np

    rng, spec = np.random.default_rng(SEED), detector.spec
    classes, boxes = head_names(len(detector.levels))
    count = min(MOST, spec.candidates, max(spec.detections // len(detector.levels), 1))
    logits = rng.permutation(_logits(spec, count * len(detector.levels))).reshape(len(detector.levels), -1)
    heads = {}
    for level, cls, box, values in zip(detector.levels, classes, boxes, logits, strict=True):
        anchors, shape = spec.anchors_per_location, (level.height, level.width)
        scores = np.full((anchors, spec.classes, level.positions), _coarse(np.float32(BACKGROUND)), np.float32)
        offsets = rng.standard_normal((anchors, 4, level.positions), np.float32) * np.float32(OFFSETS)
        for place in range(0, len(values), 2):
            position, label = rng.integers(level.positions), rng.integers(spec.classes)
            chosen = rng.permutation(anchors)[: len(values[place : place + 2])]
            scores[chosen, label, position] = values[place : place + len(chosen)]
            if place % (2 * FAR) == 0:
                offsets[chosen[0], 2, position] = FAR_OFFSET
        heads[cls] = scores.reshape(1, -1, *shape)
        heads[box] = _coarse(offsets).reshape(1, -1, *shape)
    return heads


def _logits(spec: DetectorSpec, count: int) -> NDArray[np.float32]:
    """So many logits, no two alike where there are so many; a sixth of them below the threshold."""
    import numpy as np

    threshold = log(spec.score_threshold / (1 - spec.score_threshold)) if 0 < spec.score_threshold < 1 else -np.inf
    least = threshold - SPAN / 6 if threshold > -np.inf else LEAST_LOGIT
    steps: NDArray[np.float32] = np.unique(_coarse(np.linspace(least, least + SPAN, 8 * count, dtype=np.float32)))
    steps = steps[np.abs(steps - threshold) > MARGIN]
    chosen: NDArray[np.float32] = steps[np.linspace(0, len(steps) - 1, count).astype(int)]
    return chosen


def _coarse(values: Any) -> NDArray[np.float32]:
    """Rounded to bfloat16, and to 0 below float16's normal numbers."""
    import numpy as np

    rounded = (bfloat16_bits(np.asarray(values)).astype(np.uint32) << np.uint32(16)).view(np.float32)
    return np.where(np.abs(rounded) < 2.0**-14, np.float32(0), rounded)


def of_graph(graph: PreparedGraph, heads: Arrays, offset: bool) -> Detections | None:
    """What a prepared ``graph`` finds in ``heads``; None where it ends at its heads. ``offset``: the graph's ``nms_offset``."""
    detector = graph.details
    assert isinstance(detector, Detector)
    names = {computed_name(graph.model.graph, name): name for name in heads}
    if {info.name for info in graph.outputs} <= heads.keys():
        return None
    fed = {name: heads[own] for name, own in names.items()}
    outputs = _run_behind(own_arithmetic(graph.model).copy(), fed)
    return detections_from_outputs(outputs, detector.spec, offset, detector)[0]


def of_file(file: Model, heads: Arrays, detector: Detector) -> Detections:
    """What a ``file``, in float32 and with one input of images, which is consumed, finds in ``heads``."""
    import numpy as np

    own = [name for pair in zip(*head_names(len(detector.levels)), strict=True) for name in pair]
    named = zip(detector.file_heads, own, strict=True)
    fed = {theirs: np.repeat(heads[name], detector.file_batch, axis=0) for theirs, name in named}
    wanted = set(detector.file_results)
    file.graph.outputs = [info for info in file.graph.outputs if info.name in wanted]
    return detections_of_results(_run_behind(file, fed), detector)[0]


def _run_behind(model: Model, fed: Arrays) -> dict[str, NDArray[Any]]:
    """The outputs of ``model``, which is consumed, given the values ``fed``; what else they need, images of zeros lead to."""
    import numpy as np

    graph = model.graph
    images = graph.inputs
    for node in graph.nodes:
        node.outputs = [f"{name}/computed" if name in fed else name for name in node.outputs]
    graph.prune()
    read = {name for node in graph.nodes for name in node_reads(node)} | {info.name for info in graph.outputs}
    graph.inputs = [ValueInfo(name, DType.FLOAT, None) for name in fed if name in read]
    graph.inputs += [info for info in images if info.name in read]
    encoded = encode_model(model)
    session = OnnxRuntimeSession.from_graph(encoded, as_written=True)
    feeds = {name: fed[name] for name in session.inputs if name in fed}
    for name in set(session.inputs) - feeds.keys():
        shape = [size if isinstance(size, int) else 1 for size in session.input_shape(name)]
        feeds[name] = np.zeros(shape, session.input_dtype(name))
    return session.run(feeds)


def compare_answers(expected: Detections, found: Detections, spec: DetectorSpec) -> Agreement:
    """The objects of two answers to made heads; what stands in the background is left out."""
    least = max(spec.score_threshold, 1 / (1 + exp(-LEAST_LOGIT)) / 2)
    return compare_exactly(_above(expected, least), _above(found, least), spec)


def _above(detections: Detections, score: float) -> Detections:
    kept = detections.scores > score
    return Detections(detections.boxes[kept], detections.scores[kept], detections.labels[kept])


def graphs_agree(first: PreparedGraph, second: PreparedGraph, offset: bool) -> bool:
    """Whether two prepared graphs of one network find the same in the same heads."""
    detector = first.details
    assert isinstance(detector, Detector)
    heads = made_heads(detector)
    expected, found = (of_graph(graph, heads, offset) for graph in (first, second))
    return expected is None or found is None or answers_agree(compare_answers(expected, found, detector.spec))
