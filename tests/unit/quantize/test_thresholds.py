"""Thresholds taken from counts of float16 magnitudes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cmx4trt.quantize.thresholds import (
    HALF_INFINITY,
    count_codes,
    entropy_threshold,
    linear_histogram,
    percentile_threshold,
    squared_error_threshold,
)

HALF_STEP = 2.0**-10
"""Relative distance of neighbouring float16 values."""


def counts_of(values: np.ndarray) -> np.ndarray:
    return count_codes(values.astype(np.float16))


@given(hnp.arrays(np.float16, st.integers(1, 200), elements=st.floats(-60000, 60000, width=16)))
@settings(max_examples=50, deadline=None)
def test_counts_are_those_of_the_magnitudes(values: np.ndarray) -> None:
    counts = count_codes(values)
    magnitudes = np.arange(HALF_INFINITY, dtype=np.uint16).view(np.float16)
    found = np.repeat(magnitudes, counts[:HALF_INFINITY])
    assert np.array_equal(found, np.sort(np.abs(values)))


def test_counts_of_more_than_one_chunk() -> None:
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float16)
    assert np.array_equal(count_codes(values, chunk=64), count_codes(values))


@pytest.mark.parametrize("percentile", [50.0, 99.0, 99.99, 100.0])
def test_percentile_agrees_with_numpy(percentile: float) -> None:
    values = np.abs(np.random.default_rng(1).standard_normal(100_000))
    expected = np.percentile(values, percentile, method="inverted_cdf")
    assert percentile_threshold(counts_of(values), percentile) == pytest.approx(expected, rel=HALF_STEP)


def test_linear_histogram_keeps_every_count_and_the_shape() -> None:
    values = np.abs(np.random.default_rng(2).standard_normal(200_000)).astype(np.float16)
    largest = float(values.max())
    bins = linear_histogram(count_codes(values), largest, 64)
    expected, _ = np.histogram(values.astype(np.float64), 64, (0, largest))
    assert bins.sum() == pytest.approx(len(values))
    assert np.abs(bins - expected).max() < 0.02 * expected.max()


def test_squared_error_threshold_is_the_best_of_a_fine_search() -> None:
    values = np.random.default_rng(3).standard_t(3, 20_000).astype(np.float16)

    def error(largest: float) -> float:
        step = largest / 127
        exact = np.abs(values.astype(np.float64))
        return float(np.square(exact - np.minimum(np.rint(exact / step), 127) * step).sum())

    found = error(squared_error_threshold(count_codes(values)))
    best = min(error(float(np.abs(values).max()) * part) for part in np.linspace(0.02, 1, 2000))
    assert found <= best * 1.01
    assert found < 0.95 * error(float(np.abs(values).max()))


def test_entropy_threshold_clips_lone_outliers_and_keeps_a_uniform_range() -> None:
    bulk = np.abs(np.random.default_rng(4).standard_normal(500_000))
    with_outliers = np.concatenate([bulk, np.full(3, 40.0)])
    assert 2.0 < entropy_threshold(counts_of(with_outliers)) < 8.0
    uniform = np.random.default_rng(5).uniform(0, 1, 500_000)
    assert entropy_threshold(counts_of(uniform)) > 0.95


@pytest.mark.parametrize("threshold", [percentile_threshold, entropy_threshold, squared_error_threshold])
def test_a_tensor_that_is_always_zero_has_range_zero(threshold: object) -> None:
    assert threshold(counts_of(np.zeros(100))) == 0.0  # type: ignore[operator]
