"""Statistics of activations: exact counts, thresholds of each method, and states that can be continued."""

from __future__ import annotations

import numpy as np
import pytest

from cmx4trt.errors import DataError
from cmx4trt.quantize.observers import ExtremesObserver, HistogramObserver, MeansObserver, half_name
from cmx4trt.quantize.thresholds import (
    percentile_threshold,
    squared_error_threshold,
)


def test_extremes_over_images() -> None:
    observer = ExtremesObserver(["a", "b"])
    observer.add({ExtremesObserver.OUTPUT: np.array([1.0, 2.0, -5.0, 0.5, 9, 9], np.float32)})
    observer.add({ExtremesObserver.OUTPUT: np.array([3.0, 1.0, -1.0, 0.0, 9, 9], np.float32)})
    assert observer.ranges() == {"a": 5.0, "b": 2.0}


@pytest.mark.parametrize(("place", "bad"), [(1, np.nan), (1, np.inf), (3, -np.inf), (5, np.nan)])
def test_extremes_that_are_no_numbers_name_the_tensor(place: int, bad: float) -> None:
    values = np.array([1, 1, 0, 0, 2, 2], np.float32)
    values[place] = bad
    with pytest.raises(DataError, match="tensor 'b' has values that are not finite on a calibration image"):
        ExtremesObserver(["a", "b"]).add({ExtremesObserver.OUTPUT: values})


def test_a_sum_may_be_infinite() -> None:
    observer = ExtremesObserver(["a"])
    observer.add({ExtremesObserver.OUTPUT: np.array([3e38, 0, np.inf], np.float32)})
    assert observer.ranges() == {"a": pytest.approx(3e38)}


@pytest.mark.parametrize("bad", [np.nan, 1e5])
def test_histogram_refuses_what_float16_cannot_hold(bad: float) -> None:
    with np.errstate(over="ignore"):
        half = np.array([1.0, bad]).astype(np.float16)
    with pytest.raises(DataError, match=r"tensor 'a' exceeds float16's 65,504 .*--precision=bf16.*minmax"):
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
        (lambda: ExtremesObserver(["a"]), {ExtremesObserver.OUTPUT: np.array([2.0, -1.0, 1.0], np.float32)}),
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
