"""The run over calibration images: ranges as computed by hand, interruption and continuation."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import pytest

from cmx4trt.base.progress import Silent
from cmx4trt.errors import DataError
from cmx4trt.ir.model import Model, ValueInfo
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.quantize.bias import mean_channels
from cmx4trt.quantize.observe import Method, Wanted, observe
from cmx4trt.quantize.placement import place
from cmx4trt.quantize.random_samples import RandomSamples

ONE_PASS_TOLERANCE = 1e-5
"""ONNX Runtime and the reference evaluator sum in another order."""
HALF_STEP = 2.0**-10

SAMPLES = RandomSamples((3, 8, 8), 6)


def wanted(model: Model) -> Wanted:
    placement = place(model.graph)
    return Wanted(placement.activations, mean_channels(model.graph, placement))


def activations(model: Model) -> dict[str, np.ndarray]:
    """Every observed tensor over all images, from ONNX's reference evaluator."""
    copy = model.copy()
    names = wanted(model).tensors
    copy.graph.outputs = [ValueInfo(name, copy.graph.inputs[0].dtype, None) for name in names if name != "x"]
    proto = onnx.load_model_from_string(encode_model(copy, None).message)
    evaluator = onnx.reference.ReferenceEvaluator(proto)
    images = np.concatenate([SAMPLES.read(i) for i in range(len(SAMPLES))])
    found = dict(zip([o.name for o in copy.graph.outputs], evaluator.run(None, {"x": images}), strict=True))
    return {**found, "x": images}


def test_minmax_ranges_and_means(residual: Model) -> None:
    expected = activations(residual)
    observed = observe(residual, wanted(residual), SAMPLES, Method.MINMAX, Silent())
    assert observed.ranges.keys() == expected.keys()
    for name, value in expected.items():
        assert observed.ranges[name] == pytest.approx(np.abs(value).max(), rel=ONE_PASS_TOLERANCE)
    for name, means in observed.means.items():
        assert means == pytest.approx(expected[name].mean(axis=(0, 2, 3)), rel=1e-4, abs=1e-5)


def test_percentile_ranges(residual: Model) -> None:
    expected = activations(residual)
    observed = observe(residual, wanted(residual), SAMPLES, Method.PERCENTILE, Silent())
    for name, value in expected.items():
        # 99.999 % of at most 2304 values is their maximum.
        assert observed.ranges[name] == pytest.approx(np.abs(value).max(), rel=2 * HALF_STEP)


@pytest.mark.parametrize("method", list(Method))
def test_no_method_exceeds_the_extremes(residual: Model, method: Method) -> None:
    extremes = observe(residual, wanted(residual), SAMPLES, Method.MINMAX, Silent()).ranges
    for name, value in observe(residual, wanted(residual), SAMPLES, method, Silent()).ranges.items():
        assert 0.2 * extremes[name] < value <= extremes[name] * (1 + HALF_STEP)


@pytest.mark.parametrize("method", list(Method))
def test_the_largest_magnitudes_are_known_whatever_the_method(residual: Model, method: Method) -> None:
    """Also of tensors that get no range, and where they are negative."""
    watched = ("x", "c1", "a1")
    observed = observe(residual, replace(wanted(residual), watched=watched), SAMPLES, method, Silent())
    assert tuple(observed.largest) == watched
    assert set(observed.ranges) == set(wanted(residual).tensors)
    copy = residual.copy()
    copy.graph.outputs = [ValueInfo(name, copy.graph.inputs[0].dtype, None) for name in watched[1:]]
    evaluator = onnx.reference.ReferenceEvaluator(onnx.load_model_from_string(encode_model(copy, None).message))
    images = np.concatenate([SAMPLES.read(i) for i in range(len(SAMPLES))])
    for name, value in zip(watched, [images, *evaluator.run(None, {"x": images})], strict=True):
        assert observed.largest[name] == pytest.approx(np.abs(value).max(), rel=ONE_PASS_TOLERANCE)


class OneBad(RandomSamples):
    """One value of one image is not finite."""

    bad = float("nan")

    def read(self, index: int) -> np.ndarray:
        image = super().read(index).copy()
        image[0, 1, 4, 4] = self.bad if index == 2 else image[0, 1, 4, 4]
        return image


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("method", list(Method))
def test_what_is_not_finite_is_seen_by_every_method(residual: Model, method: Method, bad: float) -> None:
    samples = OneBad((3, 8, 8), 6)
    samples.bad = bad
    with pytest.raises(DataError, match="tensor 'x' has values that are not finite on a calibration image"):
        observe(residual, replace(wanted(residual), watched=("x",)), samples, method, Silent())


class Interrupted(RandomSamples):
    """Fails at one image."""

    def read(self, index: int) -> np.ndarray:
        if index == 3:
            raise KeyboardInterrupt
        return super().read(index)


class Counted(RandomSamples):
    """Counts what is read."""

    reads = 0

    def read(self, index: int) -> np.ndarray:
        self.reads += 1
        return super().read(index)


@pytest.mark.parametrize("method", list(Method))
def test_an_interrupted_run_continues_where_it_stopped(residual: Model, tmp_path: Path, method: Method) -> None:
    state = tmp_path / "deep" / "run.state"
    with pytest.raises(KeyboardInterrupt):
        observe(residual, wanted(residual), Interrupted((3, 8, 8), 6), method, Silent(), str(state))
    assert state.exists()
    rest = Counted((3, 8, 8), 6)
    continued = observe(residual, wanted(residual), rest, method, Silent(), str(state))
    assert rest.reads == 3
    assert not state.exists()
    whole = observe(residual, wanted(residual), SAMPLES, method, Silent())
    assert continued.ranges == whole.ranges
    assert all(np.array_equal(continued.means[name], means) for name, means in whole.means.items())


def test_a_damaged_state_is_ignored(residual: Model, tmp_path: Path) -> None:
    state = tmp_path / "run.state"
    state.write_bytes(b"PK\x03\x04 and nothing else")
    samples = Counted((3, 8, 8), 6)
    observe(residual, wanted(residual), samples, Method.MINMAX, Silent(), str(state))
    assert samples.reads == 6


def test_state_of_another_network_is_ignored(residual: Model, tmp_path: Path) -> None:
    state = tmp_path / "run.state"
    with pytest.raises(KeyboardInterrupt):
        observe(residual, wanted(residual), Interrupted((3, 8, 8), 6), Method.MINMAX, Silent(), str(state))
    samples = Counted((3, 8, 8), 6)
    observe(residual, Wanted(("x",), {}), samples, Method.MINMAX, Silent(), str(state))
    assert samples.reads == 6


def test_progress_counts_images(residual: Model) -> None:
    class Listening(Silent):
        def __init__(self) -> None:
            self.steps: list[tuple[str, int, int]] = []

        @contextmanager
        def stage(self, name: str):  # type: ignore[no-untyped-def]
            yield

        def step(self, name: str, done: int, total: int) -> None:
            self.steps.append((name, done, total))

    progress = Listening()
    observe(residual, wanted(residual), SAMPLES, Method.MINMAX, progress)
    assert progress.steps == [("calibrate", done, 6) for done in range(1, 7)]
