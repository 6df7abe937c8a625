"""What comparisons measured, as records of manifests: whoever compares writes them, reports read them.

The engine that ran is recorded with the same figures. Fields with a default were not recorded by every release.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from cmx4trt.base.typed import Record, absent, rest


class LayerFigures(Record):
    """Layers judged one by one: how many of ``layers``, and the largest error over what rounding explains (None: not finite)."""

    judged: int
    layers: int
    error_over_bound: float | None = None
    more: Mapping[str, Any] = rest()


class ClassFigures(Record):
    """A classifier against its original: errors of the logits, and for how many ``images`` both have the same class."""

    relative_l2: float
    verdict: str = ""
    method: str = ""
    seed: int = 0
    images: int = 0
    compared_output: str = ""
    relative_l2_limit: float | None = absent()
    max_abs_error: float | None = absent()
    largest_value: float | None = absent()
    classes_agree: int | None = absent()
    ties: int = 0
    layers: LayerFigures | None = absent()


class DetectionFigures(Record):
    """A detector against its original: how many of its detections are found again, and the error of the heads."""

    detections_of_original: int
    verdict: str = ""
    method: str = ""
    images: int = 0
    matched: float | None = absent("matched_fraction_at_iou_0.9")
    matched_limit: float | None = absent("matched_fraction_limit")
    head_error: float | None = absent()
    head_error_limit: float | None = absent()
    layers: LayerFigures | None = absent()
    more: Mapping[str, Any] = rest()


class Int8Figures(Record):
    """An INT8 graph or engine against float32: see ``verify.quantization.QuantizationAccuracy``."""

    sqnr_db: Mapping[str, float | None]
    images: int = 0
    held_out: bool = False
    synthetic: bool = False
    agreement: float | None = None
    agreement_of: str = ""
    limit_db: float | None = absent()
    limit_agreement: float | None = absent()
    trained: bool = True
    float32_graph: Mapping[str, Any] | None = absent()
    agreement_of_noise: float | None = absent()
    layers: LayerFigures | None = absent()
    consistent: bool = True
    verdict: str = ""
    method: str = ""

    @property
    def float32(self) -> Figures | None:
        """How the float32 network agrees with the original, where that was measured too."""
        return figures_of(self.float32_graph) if self.float32_graph is not None else None


Figures: TypeAlias = ClassFigures | DetectionFigures | Int8Figures


def figures_of(record: Mapping[str, Any]) -> Figures | None:
    """The figures in a record of a manifest; None where it holds none. Raises WrongRecordError."""
    kinds: dict[str, type[Figures]] = {
        "sqnr_db": Int8Figures,
        "relative_l2": ClassFigures,
        "detections_of_original": DetectionFigures,
    }
    kind = next((kind for name, kind in kinds.items() if name in record), None)
    return kind.from_dict(record) if kind is not None else None
