"""Compares a classifier's prepared graph with the original model, both in ONNX Runtime, on seeded images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cmx4trt.base.verdicts import FAILED, PASSED
from cmx4trt.graph.execution import open_original, open_prepared
from cmx4trt.networks.classification.outputs import CLASS, LOGITS, ClassifierDetails
from cmx4trt.sessions.batches import run_in_batches, run_one_by_one
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cmx4trt.graph.network import PreparedGraph
    from cmx4trt.graph.options import GraphOptions
    from cmx4trt.networks.base import OriginalMessage
    from cmx4trt.sessions.base import Session

SEED = 20241123
IMAGES = 2
"""Two images: the smallest batch that shows a frozen batch dimension; each further one only adds time."""

RELATIVE_L2_LIMITS = {"fp32": 1e-5, "fp16": 5e-3, "bf16": 5e-2}
"""Largest accepted |prepared - original| / |original| of the logits (L2 norms).

float32: both sides differ only in the order of sums, about sqrt(2048) x 6e-8 = 3e-6. float16 and bfloat16 round every tensor
to 11 and 8 significant bits; measured on random weights: 4.5e-4 and 4.5e-3. The limits leave a factor of ten for trained
weights, and lie far below what a wrong graph gives (about 1)."""

TIE_FACTOR = 2.0
"""Classes may differ where the original's two logits lie within this multiple of the largest error: rounding decides there."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was measured; relative and absolute errors of the logits over all images."""

    images: int
    relative_l2: float
    max_abs_error: float
    largest_logit: float
    classes_agree: int
    ties: int
    limit: float
    original_output: str

    @property
    def passed(self) -> bool:
        """Whether the errors are within the limit (a NaN is not) and no class differs without a tie."""
        return self.relative_l2 <= self.limit and self.classes_agree + self.ties == self.images

    @property
    def verdict(self) -> str:
        """PASSED or FAILED."""
        return PASSED if self.passed else FAILED

    def to_dict(self) -> dict[str, Any]:
        """The measurement for the manifest."""
        return {
            "verdict": self.verdict,
            "method": "ONNX Runtime: the graph given to the builder against the original model, seeded normal images",
            "seed": SEED,
            "images": self.images,
            "compared_output": self.original_output,
            "relative_l2": self.relative_l2,
            "relative_l2_limit": self.limit,
            "max_abs_error": self.max_abs_error,
            "largest_value": self.largest_logit,
            "classes_agree": self.classes_agree,
            "ties": self.ties,
        }

    def sentence(self) -> str:
        """The measurement in words."""
        return (
            f"relative L2 error {self.relative_l2:.2e} (limit {self.limit:g}), largest error {self.max_abs_error:.2e}, "
            f"class equal for {self.classes_agree} of {self.images} images"
        )


def verify_classifier(
    graph: PreparedGraph, original: OriginalMessage, options: GraphOptions, engine: Session | None = None
) -> Comparison:
    """Logits and classes of both. A float16 file is held to float16's limit, whatever precision is built from it."""
    details = graph.details
    assert isinstance(details, ClassifierDetails)
    file = original(details.reference_output)
    reference = open_original(file, details.source_precision)
    limit = max(RELATIVE_L2_LIMITS[options.precision], RELATIVE_L2_LIMITS[details.source_precision])
    prepared = engine or open_prepared(graph)
    return compare_classifiers(reference, prepared, details.reference_output, graph.spec.input_shape, limit)


def seeded_images(shape: tuple[int, int, int], count: int) -> NDArray[np.float32]:
    """Standard normal images [N, C, H, W] float32, about the range of normalised photographs."""
    import numpy as np

    return np.random.default_rng(SEED).standard_normal((count, *shape), dtype=np.float32)


def compare_classifiers(
    original: OnnxRuntimeSession, prepared: Session, reference_output: str, shape: tuple[int, int, int], limit: float
) -> Comparison:
    """Run both on the same images [N, C, H, W]: ``prepared`` in as few batches as it allows, ``original`` one by one.

    ``reference_output`` names the original's logits [N, K]; the prepared graph's are ``logits`` and ``class``.
    """
    import numpy as np

    images = seeded_images(shape, IMAGES)
    expected = run_one_by_one(original, images, reference_output).astype(np.float64)
    result = run_in_batches(prepared, images)
    error = np.abs(result[LOGITS].astype(np.float64) - expected)
    largest_error = float(error.max())
    agree, ties = _compare_classes(expected, result[CLASS], largest_error)
    return Comparison(
        images=len(images),
        relative_l2=float(np.linalg.norm(error) / (np.linalg.norm(expected) or 1.0)),
        max_abs_error=largest_error,
        largest_logit=float(np.abs(expected).max()),
        classes_agree=agree,
        ties=ties,
        limit=limit,
        original_output=reference_output,
    )


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
