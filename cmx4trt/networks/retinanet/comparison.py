"""Compares a detector's prepared graph with the original file, both in ONNX Runtime, on seeded images.

Detections are decisions, on which rounding has a say; so what is compared exactly never lies behind an amplified rounding:
the file's detections are those that its own head tensors lead to, the graph's layers up to the heads are the file's
(``graph.judge``), and the graph's detections are those that the graph's own head tensors lead to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cmx4trt.graph.execution import open_prepared, own_arithmetic
from cmx4trt.graph.judge import LayerJudgement, WatchedSession, is_run_briefly, judge_layers
from cmx4trt.graph.judge.correspondence import computed_name
from cmx4trt.graph.judge.reference import as_float32
from cmx4trt.images.normalization import InputForm
from cmx4trt.images.seeded import seeded_images
from cmx4trt.ir.onnx_file import decode_encoded
from cmx4trt.networks.retinanet.comparison_result import DetectionComparison
from cmx4trt.networks.retinanet.details import Detector, head_names
from cmx4trt.networks.retinanet.detections import (
    Detections,
    candidates_from_heads,
    detections_from_outputs,
    finish_detections,
)
from cmx4trt.networks.retinanet.file_run import FileRun
from cmx4trt.networks.retinanet.heads_compared import HeadErrors, compare_heads
from cmx4trt.networks.retinanet.image_inputs import stack_inputs
from cmx4trt.networks.retinanet.made_heads import compare_answers, made_heads, of_file, of_graph
from cmx4trt.networks.retinanet.matching import (
    BOX_TOLERANCE,
    SCORE_TOLERANCE,
    Agreement,
    are_tied,
    compare_exactly,
    match_by_overlap,
    total_agreement,
)
from cmx4trt.networks.retinanet.options import NORMALIZED, RAW, RetinaNetOptions
from cmx4trt.networks.retinanet.postprocess import CANDIDATES
from cmx4trt.sessions.batches import run_in_batches

if TYPE_CHECKING:
    from cmx4trt.graph.network import PreparedGraph
    from cmx4trt.graph.options import GraphOptions
    from cmx4trt.ir.model import Model
    from cmx4trt.networks.base import OriginalMessage
    from cmx4trt.sessions.base import Session
    from cmx4trt.sessions.batches import Runnable

    Array = Any
    Arrays = Mapping[str, Array]

IMAGES = 2
"""Two images: the smallest batch that shows a frozen batch dimension; each further one costs seconds."""
MATCH_IOU = 0.9

ENGINE_SHARE = 0.5
"""An engine, whose heads do not show, finds at least this part of what its graph finds again of the original's detections."""


def verify_detector(
    graph: PreparedGraph, original: OriginalMessage, request: GraphOptions, engine: Session | None = None
) -> DetectionComparison:
    """Layers, heads and detections on ``IMAGES`` images; ``engine`` replaces the graph, whose layers are judged already."""
    return _Verification(graph, original, request).run(engine)


class _Verification:
    """One comparison; the fields are what all its parts need."""

    def __init__(self, graph: PreparedGraph, original: OriginalMessage, request: GraphOptions) -> None:
        assert isinstance(graph.details, Detector)
        self._graph, self._request, self._detector = graph, request, graph.details
        detector, self._own = self._detector, RetinaNetOptions.of(request)
        self._images = seeded_images((3, detector.image_height, detector.image_width), IMAGES)
        self._file = original(detector.file_results[0])
        classes, boxes = head_names(len(detector.levels))
        self._names = [name for pair in zip(classes, boxes, strict=True) for name in pair]

    def run(self, engine: Session | None) -> DetectionComparison:
        expected = self._run_original()
        if engine is None:
            arithmetic = own_arithmetic(self._graph.model)
            layers = self._judge(arithmetic)
            first = {name: layers.results[head] for name, head in self._file_names if head in layers.results}
            session = self._open_with_heads(arithmetic)
            outputs = self._run(session)
            layers = layers.watched(IMAGES, session.non_finite())
            heads = compare_heads([heads for _, heads in expected[:IMAGES]], outputs, first)
            compared = self._compared(expected, outputs, heads=heads, layers=layers)
            made_up = self._compare_on_made_heads()
            tied = self._are_tied(expected) and (made_up is not None or self._own.postprocess == RAW)
            return replace(compared, made_up=made_up, tied=tied)
        own = self._compared(expected, self._run(open_prepared(self._graph)))
        compared = self._compared(expected, self._run(engine), limit=ENGINE_SHARE * own.matched_fraction)
        return replace(compared, tied=self._are_tied(expected))

    def _are_tied(self, originals: list[tuple[Detections, Arrays]]) -> bool:
        """Whether the file's scores are so much alike that its detections are chance."""
        rows = [candidates_from_heads(heads, 0, self._detector) for _, heads in originals[:IMAGES]]
        return are_tied(rows, self._detector.spec.score_threshold)

    def _run_original(self) -> list[tuple[Detections, Arrays]]:
        """The file's detections and heads of each image, and of those that fill its batch."""
        run = FileRun(self._file, self._detector)
        self._fed, self._file_names = run.typed(self._images), run.heads
        found = run.run(self._images)
        run.close()
        return found

    def _judge(self, arithmetic: Model) -> LayerJudgement:
        file = decode_encoded(self._file)
        stack_inputs(file.graph, self._graph.spec)
        return judge_layers(self._graph.model, file, dict(self._file_names), self._fed[:1], arithmetic)

    def _compare_on_made_heads(self) -> Agreement | None:
        """The graph's post-processing against the file's, on the same heads; None where the graph has none, or the file's rounds
        to ranges that made-up heads exceed."""
        if self._detector.rounded_behind:
            return None
        heads = made_heads(self._detector)
        found = of_graph(self._graph, heads, self._own.nms_offset)
        if found is None:
            return None
        file = decode_encoded(self._file)
        stack_inputs(file.graph, self._graph.spec)
        if self._detector.source_precision != "fp32":
            file = as_float32(file)
        return compare_answers(of_file(file, heads, self._detector), found, self._detector.spec)

    def _open_with_heads(self, arithmetic: Model) -> WatchedSession:
        """The graph in its own ``arithmetic``, with heads and candidates among its outputs as float32."""
        inner = [computed_name(self._graph.model.graph, name) for name in self._names]
        shown = [*inner, *([CANDIDATES] if CANDIDATES in arithmetic.graph.names() else [])]
        as_written = is_run_briefly(self._graph.model.graph, IMAGES)
        return WatchedSession(self._graph.model, self._names, shown, arithmetic, as_written)

    def _run(self, session: Runnable) -> dict[str, Array]:
        normalization = self._detector.normalization
        form = InputForm(normalization.mean, normalization.std)
        normal = self._own.input_range == NORMALIZED
        outputs = run_in_batches(session, form.normalize(self._images) if normal else self._images)
        inner = {computed_name(self._graph.model.graph, name): name for name in self._names}
        return {inner.get(name, name): array for name, array in outputs.items()}

    def _compared(
        self,
        originals: list[tuple[Detections, Arrays]],
        outputs: Arrays,
        limit: float | None = None,
        heads: HeadErrors | None = None,
        layers: LayerJudgement | None = None,
    ) -> DetectionComparison:
        detector, spec, offset = self._detector, self._detector.spec, self._own.nms_offset
        found = detections_from_outputs(outputs, spec, offset, detector)
        wanted = [detections for detections, _ in originals[: len(found)]]
        reading = [
            compare_exactly(w, finish_detections(candidates_from_heads(h, 0, detector), spec, offset), spec)
            for w, h in originals
        ]
        own = self._candidates(outputs, len(found))
        processed = [
            compare_exactly(finish_detections(r, spec, offset), f, spec) for r, f in zip(own, found, strict=False)
        ]
        matches = [match_by_overlap(w, f, MATCH_IOU) for w, f in zip(wanted, found, strict=True)]
        total = max(sum(map(len, wanted)), sum(map(len, found)))
        return DetectionComparison(
            precision=self._request.precision,
            images=len(found),
            expected=sum(map(len, wanted)),
            found=sum(map(len, found)),
            reading=total_agreement(reading),
            post_processing=total_agreement(processed),
            matched_fraction=sum(map(len, matches)) / total if total else 1.0,
            matched_score_error=max(_score_gaps(wanted, found, matches), default=0.0),
            inexact=int(outputs["inexact"].sum()) if "inexact" in outputs else sum(f.inexact for f in found),
            candidate_share=_equal_share(own, outputs[CANDIDATES]) if CANDIDATES in outputs and heads else None,
            heads=heads,
            matched_limit=limit,
            layers=layers,
        )

    def _candidates(self, outputs: Arrays, images: int) -> list[Array]:
        """Each image's candidates [T, 6] by its heads; of an engine that hides them, those it gives; [] of one with records."""
        if self._names[0] in outputs:
            return [candidates_from_heads(outputs, image, self._detector) for image in range(images)]
        return list(outputs[CANDIDATES]) if CANDIDATES in outputs else []


def _score_gaps(wanted: list[Detections], found: list[Detections], matches: list[dict[int, int]]) -> list[float]:
    return [
        abs(float(w.scores[i]) - float(f.scores[j]))
        for w, f, pairs in zip(wanted, found, matches, strict=True)
        for i, j in pairs.items()
    ]


def _equal_share(wanted: list[Array], rows: Array) -> float:
    """The share of candidates [T, 6] with the box, score and label of one that is wanted.

    In any order: below -18 ONNX Runtime's float32 sigmoid gives all logits one score.
    """
    import numpy as np

    shares = []
    for expected, found in zip(wanted, rows, strict=True):
        gaps = np.abs(expected[_by_place(expected)] - found[_by_place(found)])
        near = (gaps[:, :4].max(axis=1) <= BOX_TOLERANCE) & (gaps[:, 4] <= SCORE_TOLERANCE) & (gaps[:, 5] == 0)
        shares.append(float(near.mean()))
    return sum(shares) / len(shares)


def _by_place(rows: Array) -> Array:
    """The order of candidates by label, and within one by a sum of coordinates in which no two boxes are equal by design."""
    import numpy as np

    return np.lexsort((rows[:, :4] @ np.array([1.0, 1.37, 1.71, 2.03], np.float32), rows[:, 5]))
