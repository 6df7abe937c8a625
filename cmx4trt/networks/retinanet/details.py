"""What was found in a detector's file: grids, anchors and normalisation."""

from __future__ import annotations

from dataclasses import dataclass
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
    ``source_precision`` is what the file computes in.
    """

    spec: DetectorSpec
    image_height: int
    image_width: int
    levels: tuple[Level, ...]
    normalization: Normalization
    file_heads: tuple[str, ...]
    file_results: tuple[str, ...]
    source_precision: str = "fp32"

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


def head_names(levels: int) -> tuple[list[str], list[str]]:
    """Names of the class and box head tensors, finest level first."""
    return [f"cls_{level}" for level in range(levels)], [f"box_{level}" for level in range(levels)]
