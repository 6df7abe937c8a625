"""Compares a detector's prepared graph with the original file, both in ONNX Runtime, on seeded images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cmx4trt.base.verdicts import FAILED, PASSED
from cmx4trt.errors import ModelError
from cmx4trt.graph.execution import open_original, open_prepared
from cmx4trt.images.normalization import InputForm
from cmx4trt.ir.model import DType, ValueInfo
from cmx4trt.ir.onnx_file import EncodedGraph, encode_model, with_output
from cmx4trt.networks.retinanet.details import Detector
from cmx4trt.networks.retinanet.detections import Detections, candidates_from_heads, detections_from_outputs
from cmx4trt.networks.retinanet.matching import BOX_TOLERANCE, SCORE_TOLERANCE, compare_exactly, match_by_overlap
from cmx4trt.networks.retinanet.options import NORMALIZED, RetinaNetOptions
from cmx4trt.networks.retinanet.postprocess import CANDIDATES, RECORDS
from cmx4trt.sessions.batches import as_file_takes, run_in_batches

if TYPE_CHECKING:
    from cmx4trt.graph.network import PreparedGraph
    from cmx4trt.graph.options import GraphOptions
    from cmx4trt.networks.base import OriginalMessage
    from cmx4trt.sessions.base import Session
    from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

    Array = Any

SEED = 20241123
IMAGES = 2
"""Two images: the smallest batch that shows a frozen batch dimension; each further one costs seconds."""
GRIDS = (10, 40, 160)
"""Cells of the random fields an image is the mean of: large, middling and small structures."""
MATCH_IOU = 0.9

EXPLAINED_LIMIT = 0.01
"""Largest share of float32 detections without a partner, even where rounding explains each of them."""
MATCH_LIMITS = {"fp32": 0.99, "fp16": 0.9, "bf16": 0.2}
"""Smallest accepted share of detections that both sides find: same label, overlap of MATCH_IOU.

Measured on networks with random weights, whose best scores lie close together: float16 0.99, bfloat16 0.38 to 0.59; a
wrong graph gives below 0.01."""
LOGIT_LIMITS = {"fp32": 1e-3, "fp16": 0.1, "bf16": 0.8}
"""Largest accepted difference between the n-th best logit of both sides, over all candidates of an image.

Measured: float32 5e-6, float16 8e-3, bfloat16 5e-2. A trained network's logits are up to ten times larger, and their
rounding with them."""
CANDIDATE_SHARE = 0.5
"""Smallest accepted share of float32 candidates that are, place by place, the original's: it shows that boxes are decoded
rightly even where no score passes the threshold. Neighbours whose scores differ by less than rounding change places (5 %
measured); wrong boxes or labels leave below 0.01."""


@dataclass(frozen=True, slots=True)
class DetectionComparison:
    """What was measured, over all images; counts of detections, errors of scores, boxes (pixels) and candidates' logits."""

    precision: str
    images: int
    expected: int
    found: int
    equal: int
    explained: int
    unexplained: int
    score_error: float
    box_error: float
    matched_fraction: float
    matched_score_error: float
    logit_error: float | None
    candidate_share: float | None
    inexact: int

    @property
    def passed(self) -> bool:
        """float32: the same detections; else enough of them again. Always: the candidates' logits (a NaN fails)."""
        if self.logit_error is not None and not self.logit_error <= LOGIT_LIMITS[self.precision]:
            return False
        if self.precision == "fp32":
            if self.candidate_share is not None and not self.candidate_share >= CANDIDATE_SHARE:
                return False
            return self.unexplained == 0 and self.explained <= EXPLAINED_LIMIT * max(self.expected, 1)
        return self.matched_fraction >= MATCH_LIMITS[self.precision]

    @property
    def verdict(self) -> str:
        """PASSED or FAILED."""
        return PASSED if self.passed else FAILED

    def to_dict(self) -> dict[str, Any]:
        """The measurement for the manifest."""
        exact = {
            "equal": self.equal,
            "differ_by_rounding": self.explained,
            "differ": self.unexplained,
            "score_error": self.score_error,
            "score_error_limit": SCORE_TOLERANCE,
            "box_error_pixels": self.box_error,
            "candidates_equal": self.candidate_share,
            "candidates_equal_limit": CANDIDATE_SHARE,
        }
        return {
            "verdict": self.verdict,
            "method": "ONNX Runtime: the graph given to the builder against the original model, seeded random-field images",
            "seed": SEED,
            "images": self.images,
            "detections_of_original": self.expected,
            "detections": self.found,
            "images_not_settled_by_the_graph": self.inexact,
            **(exact if self.precision == "fp32" else {"matched_fraction_limit": MATCH_LIMITS[self.precision]}),
            "matched_fraction_at_iou_0.9": self.matched_fraction,
            "matched_score_error": self.matched_score_error,
            "candidate_logit_error": self.logit_error,
            "candidate_logit_error_limit": LOGIT_LIMITS[self.precision],
        }

    def sentence(self) -> str:
        """The measurement in words."""
        found = f"{self.found} detections, {self.expected} by the original"
        logits = "" if self.logit_error is None else f", largest error of the best logits {self.logit_error:.2e}"
        if self.precision == "fp32":
            same = f"{self.equal} the same, {self.explained} changed by rounding, {self.unexplained} different"
            return f"{found}: {same} (largest score error {self.score_error:.2e}){logits}"
        return f"{found}: {self.matched_fraction:.1%} found again (limit {MATCH_LIMITS[self.precision]:.0%}){logits}"


def verify_detector(
    graph: PreparedGraph, original: OriginalMessage, request: GraphOptions, engine: Session | None = None
) -> DetectionComparison:
    """Detections, and the candidates they are chosen from, of both on ``IMAGES`` images; ``engine`` replaces the graph."""
    detector = graph.details
    assert isinstance(detector, Detector)
    file = original(detector.file_results[0])
    heads = [with_output(b"", name) for name in detector.file_heads]  # only what is appended: the file is copied once
    whole = EncodedGraph(b"".join((file.message, *heads)), file.constants)
    reference = open_original(whole, detector.source_precision)
    return compare_detections(reference, engine or open_prepared(_with_candidates(graph)), detector, request)


def _with_candidates(graph: PreparedGraph) -> PreparedGraph:
    """The graph with its candidates among the outputs, which the layout ``mlperf-nvidia`` has no place for."""
    names = {info.name for info in graph.outputs}
    if RECORDS not in names:
        return graph
    model = graph.model.copy()
    model.graph.outputs.append(ValueInfo(CANDIDATES, DType.FLOAT, None))
    return replace(graph, model=model, encoded=encode_model(model))


def compare_detections(
    original: OnnxRuntimeSession, prepared: Session, detector: Detector, request: GraphOptions
) -> DetectionComparison:
    """Run both on the same images: ``prepared`` in one batch (or in batches of what it takes), ``original`` image by image.

    ``original`` has its heads among its outputs.
    """
    images, own = seeded_images((3, detector.image_height, detector.image_width), IMAGES), RetinaNetOptions.of(request)
    normalization = InputForm(detector.normalization.mean, detector.normalization.std)
    feeds = normalization.normalize(images) if own.input_range == NORMALIZED else images
    outputs = run_in_batches(prepared, feeds)
    found = detections_from_outputs(outputs, detector.spec, own.nms_offset, detector)
    name = original.inputs[0]
    expected, wanted = [], []
    for image in images:
        results = original.run({name: as_file_takes(original, image[None])})
        expected.append(_file_detections(results, detector))
        wanted.append(candidates_from_heads(_canonical_heads(results, detector), 0, detector))
    rows = _candidates(outputs, detector, len(images))
    return _comparison(expected, found, outputs, detector, request, wanted, rows)


def seeded_images(shape: tuple[int, int, int], count: int) -> Array:
    """Images [N, C, H, W] float32 in 0..1: means of random fields with structures of several sizes."""
    import numpy as np

    random = np.random.default_rng(SEED)
    channels, height, width = shape
    image = np.zeros((count, *shape), np.float32)
    for cells in GRIDS:
        field = random.random((count, channels, cells, cells), dtype=np.float32)
        image += _enlarged(_enlarged(field, height).swapaxes(2, 3), width).swapaxes(2, 3) / np.float32(len(GRIDS))
    return image


def _enlarged(field: Array, size: int) -> Array:
    """Linear interpolation of [N, C, h, w] along h to ``size`` rows, half-pixel centres, borders repeated."""
    import numpy as np

    cells = field.shape[2]
    places = np.clip((np.arange(size) + 0.5) * cells / size - 0.5, 0, cells - 1)
    low = np.minimum(places.astype(int), cells - 2)
    share = (places - low).astype(np.float32)[:, None]
    return field[:, :, low] * (1 - share) + field[:, :, low + 1] * share


def _canonical_heads(results: Mapping[str, Array], detector: Detector) -> dict[str, Array]:
    names = [f"{kind}_{level}" for level in range(len(detector.levels)) for kind in ("cls", "box")]
    return {name: results[head] for name, head in zip(names, detector.file_heads, strict=True)}


def _file_detections(results: Mapping[str, Array], detector: Detector) -> Detections:
    """The file's results by their shapes and types: boxes [n, 4], scores [n] float, labels [n] integer."""
    import numpy as np

    values = [results[name] for name in detector.file_results]
    boxes = [v for v in values if v.ndim == 2 and v.shape[1] == 4]
    scores = [v for v in values if v.ndim == 1 and v.dtype.kind == "f"]
    labels = [v for v in values if v.ndim == 1 and v.dtype.kind in "iu"]
    if not len(boxes) == len(scores) == len(labels) == 1:
        shown = ", ".join(f"{v.dtype}{list(v.shape)}" for v in values)
        raise ModelError(
            f"the model's results cannot be compared: got {shown}, expected boxes [n, 4], scores [n] and integer labels [n]; "
            "build with --verify=no if that is intended"
        )
    return Detections(boxes[0], scores[0], labels[0].astype(np.int32))


def _candidates(outputs: Mapping[str, Array], detector: Detector, images: int) -> list[Array]:
    """Each image's candidates [T, 6], where the output layout has them."""
    if "candidates" in outputs:
        return list(outputs["candidates"])
    if "cls_0" in outputs:
        return [candidates_from_heads(outputs, image, detector) for image in range(images)]
    return []


def _logits(rows: Array) -> Array:
    """The falling logits of candidates [T, 6], back from their scores."""
    import numpy as np

    scores = np.clip(rows[:, 4].astype(np.float64), 1e-30, 1 - 1e-7)
    return np.log(scores / (1 - scores))


def _logit_error(wanted: list[Array], rows: list[Array]) -> float | None:
    """The largest difference between logits of the same rank."""
    import numpy as np

    return max((float(np.abs(_logits(w) - _logits(r)).max()) for w, r in zip(wanted, rows, strict=False)), default=None)


def _candidate_share(wanted: list[Array], rows: list[Array]) -> float | None:
    """The share of candidates with the box and the label of the original's in the same place."""
    import numpy as np

    if not rows:
        return None
    gaps = np.abs(np.stack(wanted) - np.stack(rows))
    return float(((gaps[..., :4].max(axis=-1) <= BOX_TOLERANCE) & (gaps[..., 5] == 0)).mean())


def _coarser(built: str, source: str) -> str:
    """The precision whose limits hold: a float16 file is no better than float16, whatever is built of it."""
    return max(built, source, key=list(MATCH_LIMITS).index)


def _comparison(
    expected: list[Detections],
    found: list[Detections],
    outputs: Mapping[str, Array],
    detector: Detector,
    request: GraphOptions,
    wanted: list[Array],
    rows: list[Array],
) -> DetectionComparison:
    agreements = [compare_exactly(e, f, detector.spec) for e, f in zip(expected, found, strict=True)]
    matches = [match_by_overlap(e, f, MATCH_IOU) for e, f in zip(expected, found, strict=True)]
    total = max(sum(map(len, expected)), sum(map(len, found)))
    gaps = [
        abs(float(e.scores[i]) - float(f.scores[j]))
        for e, f, pairs in zip(expected, found, matches, strict=True)
        for i, j in pairs.items()
    ]
    return DetectionComparison(
        precision=_coarser(request.precision, detector.source_precision),
        images=len(expected),
        expected=sum(map(len, expected)),
        found=sum(map(len, found)),
        equal=sum(a.pairs for a in agreements),
        explained=sum(a.explained for a in agreements),
        unexplained=sum(a.unexplained for a in agreements),
        score_error=max(a.score_error for a in agreements),
        box_error=max(a.box_error for a in agreements),
        matched_fraction=sum(map(len, matches)) / total if total else 1.0,
        matched_score_error=max(gaps, default=0.0),
        logit_error=_logit_error(wanted, rows),
        candidate_share=_candidate_share(wanted, rows),
        inexact=int(outputs["inexact"].sum()) if "inexact" in outputs else sum(f.inexact for f in found),
    )
