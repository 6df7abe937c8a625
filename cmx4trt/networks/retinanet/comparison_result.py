"""What the comparison of a detector's graph with its file has found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cmx4trt.base.verdicts import FAILED, PASSED
from cmx4trt.graph.judge import LayerJudgement
from cmx4trt.images.seeded import SEED
from cmx4trt.networks.retinanet.heads_compared import HeadErrors
from cmx4trt.networks.retinanet.matching import EXPLAINED_LIMIT, SCORE_TOLERANCE, Agreement, answers_agree

CANDIDATE_SHARE = 0.5
"""Smallest accepted share of candidates that are those that the heads lead to: it shows that boxes are decoded rightly even where
no score passes the threshold. Two that nearly coincide may be taken for each other; wrong boxes or labels leave below 0.01."""


@dataclass(frozen=True, slots=True)
class DetectionComparison:
    """What was measured, over all images; counts of detections, errors of scores and boxes (pixels).

    ``reading``: the file's detections against those of its heads; ``post_processing``: the graph's (or engine's) against those
    of its own heads (or candidates); ``made_up``: the graph's against the file's on the same, made-up heads, whatever the
    weights find; ``tied``: the own heads' scores are so much alike that the first two are chance, and the third decides (of an
    engine, whose graph was judged so, its candidates do); ``candidate_share``: as CANDIDATE_SHARE says. ``heads`` is None of an
    engine, whose share of matched detections has a limit instead.
    """

    precision: str
    images: int
    expected: int
    found: int
    reading: Agreement
    post_processing: Agreement
    matched_fraction: float
    matched_score_error: float
    inexact: int
    candidate_share: float | None = None
    heads: HeadErrors | None = None
    matched_limit: float | None = None
    layers: LayerJudgement | None = None
    made_up: Agreement | None = None
    tied: bool = False

    @property
    def is_read(self) -> bool:
        """Whether the file's detections are those that its heads lead to, as far as they can be."""
        return self.reading.agrees or self.tied

    @property
    def is_processed(self) -> bool:
        """Whether the graph's, or the engine's, are."""
        other = self.made_up if self.tied else None
        return self.post_processing.agrees or (other is not None and answers_agree(other))

    @property
    def passed(self) -> bool:
        """Whether each of the parts agrees (a NaN does not)."""
        return (
            (self.layers is None or self.layers.passed)
            and self.is_read
            and self.is_processed
            and (self.made_up is None or answers_agree(self.made_up))
            and (self.candidate_share is None or self.candidate_share >= CANDIDATE_SHARE)
            and (self.heads is None or self.heads.passed)
            and (self.matched_limit is None or self.matched_fraction >= self.matched_limit)
        )

    @property
    def verdict(self) -> str:
        """PASSED or FAILED."""
        return PASSED if self.passed else FAILED

    def to_dict(self) -> dict[str, Any]:
        """The measurement for the manifest."""
        return {
            "verdict": self.verdict,
            "method": "ONNX Runtime: the graph given to the builder against the original model, seeded random-field images",
            "seed": SEED,
            "images": self.images,
            "detections_of_original": self.expected,
            "detections": self.found,
            "images_not_settled_by_the_graph": self.inexact,
            "file_against_its_heads": _record(self.reading),
            "graph_against_its_heads": _record(self.post_processing),
            **({} if self.made_up is None else {"graph_against_file_on_made_up_heads": _record(self.made_up)}),
            "scores_all_alike": self.tied,
            "candidates_equal": self.candidate_share,
            "candidates_equal_limit": CANDIDATE_SHARE,
            "matched_fraction_at_iou_0.9": self.matched_fraction,
            "matched_fraction_limit": self.matched_limit,
            "matched_score_error": self.matched_score_error,
            **(self.heads.to_dict() if self.heads is not None else {}),
            **({"layers": self.layers.to_dict()} if self.layers is not None else {}),
        }

    def sentence(self) -> str:
        """The measurement in words: of what does not agree where there is such a thing."""
        if self.layers is not None and not self.layers.passed:
            return self.layers.sentence()
        if not self.is_read:
            return f"the file's own detections are not those that its heads lead to: {_words(self.reading)}"
        if self.made_up is not None and not answers_agree(self.made_up):
            return f"of the same head tensors the graph makes other detections than the file: {_counts(self.made_up)}"
        if not self.is_processed:
            return f"the detections are not those that the heads lead to: {_words(self.post_processing)}"
        if self.candidate_share is not None and not self.candidate_share >= CANDIDATE_SHARE:
            return f"boxes or classes are decoded wrongly: {self.candidate_share:.1%} of the candidates are as the heads say"
        limit = "" if self.matched_limit is None else f" (limit {self.matched_limit:.0%})"
        found = (
            f"{self.found} detections, {self.expected} by the original: {self.matched_fraction:.1%} found again{limit}"
        )
        if self.tied:
            found = "scores are all alike, so that what is made of heads was compared on made-up ones"
        parts = [
            found,
            *([self.heads.sentence()] if self.heads else []),
            *([self.layers.sentence()] if self.layers else []),
        ]
        return "; ".join(parts)


def _counts(agreement: Agreement) -> str:
    return f"{agreement.pairs} the same, {agreement.explained} changed by rounding, {agreement.unexplained} different"


def _words(agreement: Agreement) -> str:
    counts = _counts(agreement)
    if agreement.unexplained:
        return counts
    return (
        f"{counts}; so many scores or overlaps are equal up to rounding that detections cannot judge these weights (limit "
        f"{EXPLAINED_LIMIT:.0%} changed); --verify=no builds without this check"
    )


def _record(agreement: Agreement) -> dict[str, Any]:
    return {
        "equal": agreement.pairs,
        "differ_by_rounding": agreement.explained,
        "differ": agreement.unexplained,
        "score_error": agreement.score_error,
        "score_error_limit": SCORE_TOLERANCE,
        "box_error_pixels": agreement.box_error,
    }
