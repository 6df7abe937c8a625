"""What was found in a detector's file: grids, anchors and normalization."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cmx4trt.graph.spec import ModelSpec
from cmx4trt.images.normalization import RGB
from cmx4trt.networks.retinanet.spec import DetectorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Normalization:
    """Per channel (x - mean) / std: what a file does with its images before the first convolution."""

    mean: RGB
    std: RGB

    @property
    def is_identity(self) -> bool:
        """Whether the file takes images as its first convolution wants them."""
        return self.mean == (0.0, 0.0, 0.0) and self.std == (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """One feature level: its grid and its anchors [A * H * W, 4] float32 (x1, y1, x2, y2 in pixels), anchor index outermost."""

    height: int
    width: int
    anchors: NDArray[Any]

    @property
    def positions(self) -> int:
        """H * W."""
        return self.height * self.width


@dataclass(frozen=True, slots=True, eq=False)
class Detector:
    """A RetinaNet's head tensors: ``cls_<l>`` [N, A * K, H, W] and ``box_<l>`` [N, A * 4, H, W] of each level l.

    ``file_heads`` are their names in the file, class and box of each level in turn; ``file_results`` the file's outputs;
    ``source_precision`` is what the file computes in; ``file_batch`` how many images it takes at a time,
    ``rounded_behind`` how many activations it quantizes at its heads or behind them.
    """

    spec: DetectorSpec
    image_height: int
    image_width: int
    levels: tuple[Level, ...]
    normalization: Normalization
    file_heads: tuple[str, ...]
    file_results: tuple[str, ...]
    source_precision: str = "fp32"
    file_batch: int = 1
    rounded_behind: int = 0

    @property
    def candidates(self) -> int:
        """Pairs of box and class that enter suppression, all levels together."""
        return sum(self.level_candidates(level) for level in self.levels)

    def level_candidates(self, level: Level) -> int:
        """Pairs of one level that enter suppression."""
        return min(self.spec.candidates, level.positions * self.spec.anchors_per_location * self.spec.classes)


def detector_spec(spec: ModelSpec) -> DetectorSpec:
    """The detector data of a model."""
    if not isinstance(spec.details, DetectorSpec):
        raise TypeError(f"{spec.title} carries no detector data")
    return spec.details


_PARAMETERS = ("classes", "score_threshold", "iou_threshold", "candidates", "detections", "max_log_ratio")
"""What files differ in, of a detector's data."""


def parameters_of(detector: DetectorSpec) -> dict[str, float]:
    """What a file said of its classes and post-processing, for the manifest."""
    return {name: getattr(detector, name) for name in _PARAMETERS}


def with_parameters(spec: ModelSpec, recorded: Mapping[str, Any]) -> ModelSpec:
    """``spec`` with what ``parameters_of`` recorded. Raises TypeError, ValueError on a damaged record."""
    kinds = {name: type(value) for name, value in parameters_of(detector_spec(spec)).items()}
    found: dict[str, Any] = {name: kind(recorded[name]) for name, kind in kinds.items() if name in recorded}
    return with_detector(spec, replace(detector_spec(spec), **found))


def with_detector(spec: ModelSpec, detector: DetectorSpec) -> ModelSpec:
    """``spec`` with another detector: the largest tensor is the class logits of the finest level, or the stem's result."""
    _, height, width = spec.input_shape
    logits = detector.anchors_per_location * detector.classes * (height // 8) * (width // 8)
    stem = detector.body.stem * (height // 2) * (width // 2)
    return replace(spec, details=detector, largest_activation=max(logits, stem))


def head_names(levels: int) -> tuple[list[str], list[str]]:
    """Names of the class and box head tensors, finest level first."""
    return [f"cls_{level}" for level in range(levels)], [f"box_{level}" for level in range(levels)]
