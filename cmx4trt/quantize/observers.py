"""Statistics of activations that grow image by image in constant memory, and the ranges taken from them.

Observers share one shape: ``add`` takes what the instrumented graph returns for one image, ``state`` and ``restore`` serve
an interrupted run, ``ranges`` or ``means`` give the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from cmx4trt.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Threshold = Callable[[NDArray[Any]], float]
    """Of counts [32768], which may be weighted."""

PERCENTILE = 99.999
"""Part of the values (in percent) that the percentile method covers: the default of onnxruntime.quantization."""

HISTOGRAM_BINS = 2048
LEVELS = 128
"""Bins and non-negative int8 levels of the entropy method: S. Migacz, "8-bit Inference with TensorRT", GTC 2017, slides 38-40."""
UNSIGNED_LEVELS = 256
"""Levels of uint8, for what cannot be negative."""
CANDIDATE_STEP = 8
"""Every eighth of the possible thresholds is tried: 8/2048 of the range, below half an int8 step (1/128)."""

CANDIDATES, SMALLEST_PART = 120, 0.02
"""Thresholds that the mse method tries, from this part of the largest magnitude on: neighbors differ by 3 %, which moves
the error near its minimum by less than 0.1 %."""
MERGED_CODES = 8
"""Neighboring float16 codes that the mse method takes as one value: they differ by 0.8 % at most, an int8 step near its
limit by the same."""

HALF_CODES = 0x8000
"""Non-negative float16 codes; those from ``HALF_INFINITY`` on are infinity and NaN (IEEE 754-2008, binary16)."""
HALF_INFINITY = 0x7C00
SMALLEST_FINE_RANGE = 2.0**-10
"""Tensors below this have lost precision to float16's subnormals (spaced 2^-24): 2^-10 still has 2^14 steps."""

_CHUNK = 1 << 20
"""Elements counted at a time, so that the widened indices stay in the cache."""


class Observer(Protocol):
    """Statistics over the images seen so far."""

    def add(self, observed: Mapping[str, NDArray[Any]]) -> None:
        """Take in one image. Raises DataError where a value is not finite."""

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything seen so far."""

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from a ``state``."""


class RangeObserver(Observer, Protocol):
    """An observer of magnitudes."""

    def ranges(self) -> dict[str, float]:
        """The magnitude that each tensor's largest level stands for."""


class ExtremesObserver:
    """The smallest and largest value of every tensor; the graph itself reduces each tensor to these two."""

    OUTPUT = "observed_extremes"

    def __init__(self, tensors: Sequence[str]) -> None:
        import numpy as np

        self.tensors = tuple(tensors)
        self._largest = np.zeros(len(self.tensors), np.float32)

    def add(self, observed: Mapping[str, NDArray[Any]]) -> None:
        """``observed[OUTPUT]`` is [2, T]: all maxima, then all minima."""
        import numpy as np

        magnitude = np.abs(observed[self.OUTPUT].reshape(2, -1)).max(axis=0)
        bad = np.flatnonzero(~np.isfinite(magnitude))
        if len(bad):
            raise DataError(_overflow(self.tensors[bad[0]], "float32"))
        self._largest = np.maximum(self._largest, magnitude)

    def ranges(self) -> dict[str, float]:
        """The largest magnitude seen."""
        return dict(zip(self.tensors, map(float, self._largest), strict=True))

    def state(self) -> dict[str, NDArray[Any]]:
        """The maxima [T]."""
        return {"largest": self._largest}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from a ``state``."""
        self._largest = state["largest"]


class HistogramObserver:
    """How often each float16 magnitude occurs: an exact, mergeable histogram that needs no range in advance.

    The graph casts every tensor to float16, whose 31744 finite magnitudes serve as bins: 0.05 % relative resolution over
    the whole range, so one pass over the images is enough and the order of images does not matter.
    """

    def __init__(self, tensors: Sequence[str], thresholds: Sequence[Threshold], power: float = 0.0) -> None:
        """``thresholds``: for each tensor how its magnitude is chosen. An image's counts are divided by this ``power`` of its
        energy in that tensor: at 1 every image has the same weight in a sum of squared errors, however large its values are."""
        import numpy as np

        self.tensors = tuple(tensors)
        self._thresholds = tuple(thresholds)
        self._power = power
        self._counts = np.zeros((len(self.tensors), HALF_CODES), np.float64 if power else np.int64)

    def add(self, observed: Mapping[str, NDArray[Any]]) -> None:
        """``observed[half_name(t)]`` is tensor ``t`` as float16."""
        for row, tensor in zip(self._counts, self.tensors, strict=True):
            counts = count_codes(observed[half_name(tensor)])
            if counts[HALF_INFINITY:].any():
                raise DataError(_overflow(tensor, "float16"))
            row += self._weighted(counts)

    def _weighted(self, counts: NDArray[np.int64]) -> NDArray[Any]:
        return counts / ((energy(counts) or 1.0) ** self._power) if self._power else counts

    def ranges(self) -> dict[str, float]:
        """The threshold that the method chooses for each tensor."""
        rows = zip(self.tensors, self._thresholds, self._counts, strict=True)
        found = {tensor: threshold(row) for tensor, threshold, row in rows}
        for tensor, largest in found.items():
            if 0 < largest < SMALLEST_FINE_RANGE:
                raise DataError(
                    f"tensor '{tensor}' stays below {largest:.3g}, where the histogram's float16 bins are too coarse; "
                    "use --calibration_method=minmax"
                )
        return found

    def state(self) -> dict[str, NDArray[Any]]:
        """The counts [T, 32768]."""
        return {"counts": self._counts}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from a ``state``."""
        self._counts = state["counts"]


class MeansObserver:
    """The mean of each channel of some tensors over images and positions; the graph averages over the positions."""

    OUTPUT = "observed_means"

    def __init__(self, channels: Mapping[str, int]) -> None:
        import numpy as np

        self._channels = dict(channels)
        self._sum = np.zeros(sum(channels.values()), np.float64)
        self._images = 0

    def add(self, observed: Mapping[str, NDArray[Any]]) -> None:
        """``observed[OUTPUT]`` holds the channels of all tensors, one after the other."""
        self._sum += observed[self.OUTPUT]
        self._images += 1

    def means(self) -> dict[str, NDArray[np.float32]]:
        """The mean of each channel, float32 [C], by tensor."""
        import numpy as np

        ends = np.cumsum(list(self._channels.values()))
        parts = np.split((self._sum / max(self._images, 1)).astype(np.float32), ends[:-1])
        return dict(zip(self._channels, parts, strict=True))

    def state(self) -> dict[str, NDArray[Any]]:
        """The sums and the number of images."""
        import numpy as np

        return {"sum": self._sum, "images": np.array(self._images)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from a ``state``."""
        self._sum, self._images = state["sum"], int(state["images"])


def half_name(tensor: str) -> str:
    """The graph output that holds ``tensor`` as float16."""
    return f"{tensor}_observed_half"


def count_codes(half: NDArray[Any], chunk: int = _CHUNK) -> NDArray[np.int64]:
    """How often each magnitude code occurs in a float16 array: int64 [32768]; ``chunk`` values are counted at a time."""
    import numpy as np

    codes = half.reshape(-1).view(np.uint16)
    counts = np.zeros(2 * HALF_CODES, np.int64)
    for start in range(0, len(codes), chunk):
        counts += np.bincount(codes[start : start + chunk], minlength=2 * HALF_CODES)
    return counts[:HALF_CODES] + counts[HALF_CODES:]


def percentile_threshold(counts: NDArray[np.int64], percentile: float = PERCENTILE) -> float:
    """The magnitude that ``percentile`` percent of the counted values do not exceed; counts [32768] as of count_codes."""
    import numpy as np

    cumulated = np.cumsum(counts[:HALF_INFINITY])
    code = int(np.searchsorted(cumulated, cumulated[-1] * (percentile / 100)))
    return float(_magnitudes()[min(code, HALF_INFINITY - 1)])


def entropy_threshold(counts: NDArray[np.int64], levels: int = LEVELS) -> float:
    """The magnitude whose clipped distribution over ``levels`` levels differs least from the counted one (Kullback-Leibler).

    After S. Migacz, "8-bit Inference with TensorRT", GTC 2017, slides 38-40. The first bin takes its neighbor's height, as
    NVIDIA's tools do: the zeros that Relu makes are represented exactly whatever the threshold.
    """
    import numpy as np

    used = np.flatnonzero(counts[:HALF_INFINITY])
    if not len(used) or used[-1] == 0:
        return 0.0
    largest = float(_magnitudes()[used[-1]])
    bins = linear_histogram(counts, largest, HISTOGRAM_BINS)
    bins[0] = bins[1]
    candidates = range(levels, HISTOGRAM_BINS + 1, CANDIDATE_STEP)
    best = min(candidates, key=lambda stop: _divergence(bins, stop, levels))
    return largest * best / HISTOGRAM_BINS


def energy(counts: NDArray[np.int64]) -> float:
    """The sum of the squares of the counted values; counts [32768] as of count_codes, finite values only."""
    import numpy as np

    return float(counts[:HALF_INFINITY] @ np.square(_magnitudes()))


def squared_error_threshold(counts: NDArray[Any], levels: int = LEVELS) -> float:
    """The magnitude at which rounding and clipping to ``levels`` levels together make the smallest mean squared error.

    M. Nagel et al., "A White Paper on Neural Network Quantization" (arXiv:2106.08295), section 3.1. Where an image's counts are
    divided by its energy, that is the smallest mean of the images' ratios of noise to signal.
    """
    import numpy as np

    used = np.flatnonzero(counts[:HALF_INFINITY])
    if not len(used) or used[-1] == 0:
        return 0.0
    candidates = _magnitudes()[used[-1]] * np.geomspace(SMALLEST_PART, 1.0, CANDIDATES)
    merged = counts[:HALF_INFINITY].reshape(-1, MERGED_CODES).astype(np.float64)
    sums = (merged * _magnitudes().reshape(-1, MERGED_CODES)).sum(axis=1)
    present = merged.any(axis=1)
    weights = merged.sum(axis=1)[present]
    values = sums[present] / weights

    def error(largest: float) -> float:
        step = largest / (levels - 1)
        return float(weights @ np.square(values - np.minimum(np.rint(values / step), levels - 1) * step))

    return float(min(candidates, key=error))


def linear_histogram(counts: NDArray[np.int64], largest: float, bins: int) -> NDArray[np.float64]:
    """The counts over ``bins`` equal parts of 0 .. largest; each float16 bin is spread evenly over the values it rounds."""
    import numpy as np

    values = _magnitudes()
    edges = np.concatenate([[0.0], (values[1:] + values[:-1]) / 2, [values[-1]]])
    cumulated = np.concatenate([[0], np.cumsum(counts[:HALF_INFINITY])])
    targets = np.linspace(0.0, largest, bins + 1)
    targets[-1] = edges[-1]
    return np.diff(np.interp(targets, edges, cumulated))


def _divergence(bins: NDArray[np.float64], stop: int, levels: int) -> float:
    """KL divergence of the first ``stop`` bins, outliers added to the last, from their version with ``levels`` levels."""
    import numpy as np

    head = bins[:stop]
    reference = head.copy()
    reference[-1] += bins[stop:].sum()
    starts = np.arange(levels) * stop // levels
    filled = (head > 0).astype(np.float64)
    share = np.add.reduceat(head, starts) / np.maximum(np.add.reduceat(filled, starts), 1)
    level_of_bin = np.repeat(np.arange(levels), np.diff(np.append(starts, stop)))
    approximation = share[level_of_bin] * filled
    total, quantized_total = reference.sum(), approximation.sum()
    if quantized_total == 0:
        return float("inf")
    present = reference > 0
    p = reference[present] / total
    q = np.maximum(approximation[present] / quantized_total, np.finfo(np.float64).tiny)
    return float((p * np.log(p / q)).sum())


def _magnitudes() -> NDArray[np.float64]:
    """The value of every finite non-negative float16 code [31744]."""
    import numpy as np

    return np.arange(HALF_INFINITY, dtype=np.uint16).view(np.float16).astype(np.float64)


def _overflow(tensor: str, dtype: str) -> str:
    hint = "use --calibration_method=minmax" if dtype == "float16" else "check the model and the images"
    return f"tensor '{tensor}' leaves {dtype}'s range on a calibration image, so it has no usable range; {hint}"
