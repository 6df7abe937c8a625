"""What judging a graph's layers has found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class NonFinite:
    """A tensor with elements that are no finite numbers: how many of how many, and whether they are infinite (or NaN)."""

    layer: str
    dtype: str
    count: int
    size: int
    infinite: bool

    def sentence(self) -> str:
        """What happens where, and what helps."""
        found = f"{self.count:,} of {self.size:,} values"
        if self.dtype == "float32":
            return (
                f"{found} of the original model at {self.layer} are {'infinite' if self.infinite else 'not a number'}"
            )
        if not self.infinite:
            return f"{found} at {self.layer} are not a number"
        other = "fp32" if self.dtype == "bfloat16" else "bf16 or fp32"
        return f"{self.layer} overflows {self.dtype}: {found}; build with --precision={other}"


@dataclass(frozen=True, slots=True)
class LayerJudgement:
    """What was found: the layers compared on one image, and looked at for overflows on ``images``.

    ``layers``: how many there are; ``judged``: how many of them were compared; ``excess``: the largest error over its bound,
    which ``worst`` has; ``failed``: how many are above 1, ``first`` the first of them, and
    ``unlike`` what it is, where that is no matter of figures. ``results``: what the original gives for
    the first image in the engine's arithmetic, by the names of its results.
    """

    images: int
    layers: int
    judged: int
    worst: str
    excess: float
    failed: int
    first: str
    first_excess: float
    non_finite: NonFinite | None = None
    unlike: str = ""
    results: Mapping[str, NDArray[Any]] = field(default_factory=dict, compare=False, repr=False)

    def watched(self, images: int, non_finite: NonFinite | None) -> LayerJudgement:
        """With what was seen of so many images in a ``WatchedSession``."""
        return replace(self, images=images, non_finite=non_finite)

    @property
    def passed(self) -> bool:
        """Whether every layer that was compared is within its bound, and finite."""
        return self.failed == 0 and self.non_finite is None

    def to_dict(self) -> dict[str, Any]:
        """The measurement for the manifest."""
        return {
            "images": self.images,
            "layers": self.layers,
            "judged": self.judged,
            "worst": self.worst,
            "error_over_bound": self.excess if isfinite(self.excess) else None,
            "failed": self.failed,
        }

    def sentence(self) -> str:
        """The measurement in words."""
        if self.non_finite is not None:
            return self.non_finite.sentence()
        if self.failed:
            more = f", and {self.failed - 1} more" if self.failed > 1 else ""
            if self.unlike:
                return f"{self.first} {self.unlike}{more}"
            return (
                f"{self.first} differs from the original by {self.first_excess:.3g} times what rounding explains{more}"
            )
        return (
            f"all of {self.judged} layers as the original's (largest error {self.excess:.2g} of what rounding explains)"
        )
