"""How far a detector's head tensors are from the original's, where they are computed: before the sigmoid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cmx4trt.graph.judge.correspondence import computed_name
from cmx4trt.graph.precision import floats_from_tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cmx4trt.ir.model import Graph

    Arrays = Mapping[str, NDArray[Any]]

FLOAT32_LIMIT = 1e-4
"""Largest accepted error of float32 heads: sums of 2304 products in another order, sqrt(2304) x 6e-8, in some sixty layers."""
_CHUNK = 2**15
ROUNDING_FACTOR = 10.0
"""In float16 and bfloat16: largest accepted multiple of what the original's own heads lose in that arithmetic."""


@dataclass(frozen=True, slots=True)
class HeadErrors:
    """``error``: norm of the error over the norm of what varies in the heads (their means over positions, the classes' prior
    among them, tell nothing); ``own_images``: each image has its own heads, as far as rounding lets images be told apart."""

    error: float
    limit: float
    largest: float
    own_images: bool

    @property
    def passed(self) -> bool:
        """Whether the error is within its limit (a NaN is not)."""
        return self.error <= self.limit and self.own_images

    def to_dict(self) -> dict[str, Any]:
        """The measurement for the manifest."""
        return {
            "head_error": self.error,
            "head_error_limit": self.limit,
            "largest_head_error": self.largest,
            "images_have_their_own_heads": self.own_images,
        }

    def sentence(self) -> str:
        """The measurement in words."""
        own = "" if self.own_images else ", with the results of one image in another's place"
        return f"relative error of the heads {self.error:.2e} (limit {self.limit:.2g}){own}"


def class_priors(graph: Graph, heads: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The biases [A * K] of the convolutions that give ``heads``: the logits of an image that says nothing."""
    producers, priors = graph.producers(), {}
    for head in heads:
        node = producers[computed_name(graph, head)]
        bias = graph.initializers.get(node.inputs[2]) if node.op_type == "Conv" and len(node.inputs) > 2 else None
        if bias is not None:
            priors[head] = floats_from_tensor(bias)
    return priors


def compare_heads(expected: Sequence[Arrays], found: Arrays, rounded: Arrays) -> HeadErrors:
    """``expected``: the original's heads [1, C, H, W] of each image in float32; ``found`` [N, C, H, W]: the graph's;
    ``rounded``: the original's of the first image in the graph's arithmetic."""
    errors = [_distance({name: found[name][i : i + 1] for name in heads}, heads) for i, heads in enumerate(expected)]
    signals = [_variation(heads) for heads in expected]
    lost = _distance(rounded, expected[0])
    apart = [_distance(heads, expected[i - 1]) for i, heads in enumerate(expected)]
    return HeadErrors(
        error=_ratio(sum(e**2 for e in errors) ** 0.5, sum(s**2 for s in signals) ** 0.5),
        limit=max(FLOAT32_LIMIT, ROUNDING_FACTOR * _ratio(lost, signals[0])),
        largest=max(_largest(found[name][i], heads[name][0]) for i, heads in enumerate(expected) for name in heads),
        own_images=all(e <= a / 2 or a / 4 <= lost for e, a in zip(errors, apart, strict=True)),
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else part


def _distance(first: Arrays, second: Arrays) -> float:
    """The L2 norm of the difference of all arrays [1, ...] that both have: summed up in float32 over _CHUNK, then in float64."""
    import numpy as np

    total = 0.0
    for name, array in first.items():
        own, theirs = array.reshape(-1), second[name].reshape(-1)
        for start in range(0, own.size, _CHUNK):
            error = own[start : start + _CHUNK] - theirs[start : start + _CHUNK]
            total += float(np.dot(error, error))
    return float(total**0.5)


def _variation(heads: Arrays) -> float:
    """The L2 norm of what is left of [1, C, H, W] when each channel's mean is taken off."""
    import numpy as np

    energies = (array.var(axis=(2, 3), dtype=np.float64).sum() * array[0, 0].size for array in heads.values())
    return float(sum(energies) ** 0.5)


def _largest(found: NDArray[Any], expected: NDArray[Any]) -> float:
    import numpy as np

    return float(np.abs(found - expected).max())
