"""Statistics of activations: exact counts, thresholds of each method, and states that can be continued."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cmx4trt.errors import DataError
from cmx4trt.quantize.observers import (
    HALF_INFINITY,
    ExtremesObserver,
    HistogramObserver,
    MeansObserver,
    count_codes,
    entropy_threshold,
    half_name,
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


def test_extremes_over_images() -> None:
    observer = ExtremesObserver(["a", "b"])
    observer.add({ExtremesObserver.OUTPUT: np.array([1.0, 2.0, -5.0, 0.5], np.float32)})
    observer.add({ExtremesObserver.OUTPUT: np.array([3.0, 1.0, -1.0, 0.0], np.float32)})
    assert observer.ranges() == {"a": 5.0, "b": 2.0}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_extremes_that_are_no_numbers_name_the_tensor(bad: float) -> None:
    with pytest.raises(DataError, match="tensor 'b' leaves float32's range"):
        ExtremesObserver(["a", "b"]).add({ExtremesObserver.OUTPUT: np.array([1, bad, 0, 0], np.float32)})


@pytest.mark.parametrize("bad", [np.nan, 1e5])
def test_histogram_refuses_what_float16_cannot_hold(bad: float) -> None:
    with np.errstate(over="ignore"):
        half = np.array([1.0, bad]).astype(np.float16)
    with pytest.raises(DataError, match=r"tensor 'a' leaves float16's range.*minmax"):
        HistogramObserver(["a"], [percentile_threshold]).add({half_name("a"): half})


def test_histogram_refuses_tensors_below_its_resolution() -> None:
    observer = HistogramObserver(["a"], [percentile_threshold])
    observer.add({half_name("a"): np.array([1e-5], np.float16)})
    with pytest.raises(DataError, match=r"tensor 'a' stays below.*minmax"):
        observer.ranges()


def test_means_over_images_and_their_split() -> None:
    observer = MeansObserver({"a": 2, "b": 1})
    observer.add({MeansObserver.OUTPUT: np.array([1.0, 2.0, 3.0], np.float32)})
    observer.add({MeansObserver.OUTPUT: np.array([3.0, 2.0, 5.0], np.float32)})
    means = observer.means()
    assert means["a"].tolist() == [2.0, 2.0]
    assert means["b"].tolist() == [4.0]


@pytest.mark.parametrize(
    ("make", "image"),
    [
        (lambda: ExtremesObserver(["a"]), {ExtremesObserver.OUTPUT: np.array([2.0, -1.0], np.float32)}),
        (lambda: HistogramObserver(["a"], [percentile_threshold]), {half_name("a"): np.array([2, -1], np.float16)}),
        (lambda: MeansObserver({"a": 2}), {MeansObserver.OUTPUT: np.array([2.0, -1.0], np.float32)}),
    ],
)
def test_a_restored_observer_continues(make: object, image: dict[str, np.ndarray]) -> None:
    first, second = make(), make()  # type: ignore[operator]
    first.add(image)
    second.restore({name: value.copy() for name, value in first.state().items()})
    for observer in (first, second):
        observer.add({name: value * 2 for name, value in image.items()})
    for name, value in first.state().items():
        assert np.array_equal(value, second.state()[name])


def test_relative_errors_weigh_every_image_alike() -> None:
    """One image with values a hundred times the others': least squares serve it alone, ratios serve the others, too."""
    rng = np.random.default_rng(8)
    images = [rng.standard_normal(4000) * (100 if index == 0 else 1) for index in range(16)]
    found = []
    for power in (0.0, 1.0):
        observer = HistogramObserver(["t"], [squared_error_threshold], power)
        for image in images:
            observer.add({half_name("t"): image.astype(np.float16)})
        found.append(observer.ranges()["t"])
    largest = float(np.abs(images[0]).max())
    assert found[0] > 0.5 * largest
    assert found[1] < 0.2 * largest

    def noise(threshold: float) -> float:
        step = threshold / 127
        errors = [np.clip(np.rint(image / step), -127, 127) * step - image for image in images]
        return float(np.mean([np.square(e).sum() / np.square(i).sum() for e, i in zip(errors, images, strict=True)]))

    assert noise(found[1]) < 0.5 * noise(found[0])


def test_relative_counts_of_images_of_zeros_and_their_state() -> None:
    observer = HistogramObserver(["t"], [squared_error_threshold], power=1.0)
    observer.add({half_name("t"): np.zeros(100, np.float16)})
    assert observer.ranges() == {"t": 0.0}
    observer.add({half_name("t"): np.full(100, 2, np.float16)})
    other = HistogramObserver(["t"], [squared_error_threshold], power=1.0)
    other.restore(observer.state())
    assert other.ranges() == observer.ranges() == {"t": pytest.approx(2, rel=0.05)}
