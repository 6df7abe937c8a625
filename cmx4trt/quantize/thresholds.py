"""Ranges taken from counts of float16 magnitudes: the thresholds of the calibration methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

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

_CHUNK = 1 << 20
"""Elements counted at a time, so that the widened indices stay in the cache."""


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
