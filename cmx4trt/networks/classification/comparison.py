"""Compares a classifier's prepared graph with the original model, both in ONNX Runtime, on seeded images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cmx4trt.base.verdicts import FAILED, PASSED
from cmx4trt.graph.execution import open_original, open_prepared, own_arithmetic
from cmx4trt.graph.judge import LayerJudgement, WatchedSession, is_run_briefly, judge_layers
from cmx4trt.images.normalization import InputForm
from cmx4trt.images.seeded import SEED
from cmx4trt.ir.onnx_file import decode_encoded
from cmx4trt.networks.classification.images import images_as_fed
from cmx4trt.networks.classification.outputs import CLASS, LOGITS, ClassifierDetails
from cmx4trt.networks.figures import ClassFigures, LayerFigures
from cmx4trt.sessions.batches import as_file_takes, run_in_batches, run_one_by_one

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cmx4trt.graph.network import PreparedGraph
    from cmx4trt.networks.base import OriginalMessage
    from cmx4trt.sessions.base import Session
    from cmx4trt.sessions.batches import Runnable

IMAGES = 2
"""Two images: the smallest batch that shows a frozen batch dimension; each further one only adds time."""

FLOAT32_LIMIT = 1e-5
"""Largest accepted |prepared - original| / |original| of the logits (L2 norms) where both are float32: they differ only in the
order of sums, about sqrt(2048) x 6e-8 = 3e-6."""

ROUNDING_FACTOR = 10.0
"""In float16 and bfloat16: largest accepted multiple of what the original itself loses by computing in that type. The two
are as large as each other up to chance and to where batch normalization stands (0.9 to 1.6 measured); a wrong graph whose
error is below that is found by its layers."""

TIE_FACTOR = 2.0
"""Classes may differ where the original's two logits lie within this multiple of the largest error: rounding decides there."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was measured; relative and absolute errors of the logits over all images.

    ``told_apart``: each image has its own logits, as far as this arithmetic lets images be told apart.
    """

    images: int
    relative_l2: float
    max_abs_error: float
    largest_logit: float
    classes_agree: int
    ties: int
    limit: float
    original_output: str
    told_apart: bool = True
    layers: LayerJudgement | None = None

    @property
    def passed(self) -> bool:
        """Whether all layers are the original's, the logits are within the limit (a NaN is not) and those of their image, and no
        class differs without a tie."""
        layers = self.layers is None or self.layers.passed
        close = self.relative_l2 <= self.limit and self.told_apart
        return layers and close and self.classes_agree + self.ties == self.images

    @property
    def verdict(self) -> str:
        """PASSED or FAILED."""
        return PASSED if self.passed else FAILED

    def to_dict(self) -> dict[str, Any]:
        """The measurement for the manifest."""
        return ClassFigures(
            verdict=self.verdict,
            method="ONNX Runtime: the graph given to the builder against the original model, seeded random-field images",
            seed=SEED,
            images=self.images,
            compared_output=self.original_output,
            relative_l2=self.relative_l2,
            relative_l2_limit=self.limit,
            max_abs_error=self.max_abs_error,
            largest_value=self.largest_logit,
            classes_agree=self.classes_agree,
            ties=self.ties,
            layers=None if self.layers is None else LayerFigures.from_dict(self.layers.to_dict()),
        ).to_dict()

    def sentence(self) -> str:
        """The measurement in words."""
        if self.layers is not None and not self.layers.passed:
            return self.layers.sentence()
        found = (
            f"relative L2 error {self.relative_l2:.2e} (limit {self.limit:.2g}), largest error {self.max_abs_error:.2e}, "
            f"same class for {self.classes_agree} of {self.images} images"
        )
        return found if self.layers is None else f"{found}; {self.layers.sentence()}"


def verify_classifier(
    graph: PreparedGraph, original: OriginalMessage, forms: Sequence[InputForm], engine: Session | None = None
) -> Comparison:
    """Layers, logits and classes; ``engine`` replaces the graph, whose layers are judged already.

    ``forms``: what the network may take; see ``images_as_fed``.
    """
    details = graph.details
    assert isinstance(details, ClassifierDetails)
    file = original(details.reference_output)
    model = decode_encoded(file)
    as_written = is_run_briefly(graph.model.graph, IMAGES)
    reference = open_original(file, details.source_precision, as_written)
    images = images_as_fed(graph.model, graph.spec.input_shape, IMAGES, forms)
    expected = run_one_by_one(reference, images, details.reference_output)
    own = as_file_takes(reference, images)
    reference.close()
    if engine is not None:
        rounded = run_in_batches(open_prepared(graph), images[:1])[LOGITS]
        return compare_classifiers(expected, rounded, engine, images, details.reference_output)
    arithmetic = own_arithmetic(graph.model)
    layers = judge_layers(graph.model, model, {LOGITS: details.reference_output}, own[:1], arithmetic)
    rounded = layers.results[details.reference_output]
    session = WatchedSession(graph.model, [LOGITS], arithmetic=arithmetic, as_written=as_written)
    found = compare_classifiers(expected, rounded, session, images, details.reference_output)
    return replace(found, layers=layers.watched(IMAGES, session.non_finite()))


def compare_classifiers(
    expected: NDArray[Any],
    rounded: NDArray[Any],
    prepared: Runnable,
    images: NDArray[Any],
    reference_output: str,
) -> Comparison:
    """Run ``prepared`` on ``images`` [N, C, H, W] in as few batches as it allows.

    ``expected``: the original's logits [N, K] in float32, called ``reference_output``; ``rounded`` [1, K]: those of the first
    image in the arithmetic of ``prepared``.
    """
    import numpy as np

    expected = expected.astype(np.float64)
    result = run_in_batches(prepared, images)
    found = result[LOGITS].astype(np.float64)
    error = np.abs(found - expected)
    largest_error = float(error.max())
    agree, ties = _compare_classes(expected, result[CLASS], largest_error)
    loss = np.linalg.norm(rounded[0].astype(np.float64) - expected[0])
    return Comparison(
        images=len(images),
        relative_l2=_relative(found, expected),
        max_abs_error=largest_error,
        largest_logit=float(np.abs(expected).max()),
        classes_agree=agree,
        ties=ties,
        limit=max(FLOAT32_LIMIT, ROUNDING_FACTOR * _relative(rounded.astype(np.float64), expected[: len(rounded)])),
        original_output=reference_output,
        told_apart=_told_apart(found, expected, float(loss)),
    )


def _told_apart(found: NDArray[Any], expected: NDArray[Any], loss: float) -> bool:
    """Whether the logits [N, K] of each image are nearer to what is expected of it than half the way to what is expected of the
    next; where rounding alone costs a quarter of that way, ``loss``, nothing can be said."""
    import numpy as np

    errors = np.linalg.norm(found - expected, axis=1)
    distances = np.linalg.norm(np.roll(expected, 1, axis=0) - expected, axis=1)
    return bool(((errors <= distances / 2) | (distances / 4 <= loss)).all())


def _relative(found: NDArray[Any], expected: NDArray[Any]) -> float:
    import numpy as np

    return float(np.linalg.norm(found - expected) / (np.linalg.norm(expected) or 1.0))


def _compare_classes(expected: NDArray[Any], classes: NDArray[Any], largest_error: float) -> tuple[int, int]:
    """How many classes [N] equal the argmax of the expected logits [N, K]; how many differ within rounding."""
    best = expected.argmax(axis=1)
    agree = ties = 0
    for row, wanted, got in zip(expected, best, classes, strict=True):
        if wanted == got:
            agree += 1
        elif 0 <= got < len(row) and row[wanted] - row[int(got)] <= TIE_FACTOR * largest_error:
            ties += 1
    return agree, ties
