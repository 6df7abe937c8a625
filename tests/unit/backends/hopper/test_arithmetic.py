"""float32 arithmetic against exact rational numbers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cmx4trt.backends.hopper.arithmetic import fma32, to_int8, to_uint8

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
STEPS = st.integers(-(2**24), 2**24).map(float)
"""Whole numbers and their halves make ties."""
SUBNORMALS = st.integers(-(2**23), 2**23).map(lambda steps: steps * 2.0**-149)


def nearest_float32(exact: Fraction) -> float:
    """``exact`` rounded to the nearest float32, ties to even, by search among its neighbours."""
    with np.errstate(over="ignore", under="ignore"):
        try:
            guess = np.float32(float(exact))
        except OverflowError:
            guess = np.float32(np.inf if exact > 0 else -np.inf)
        candidates = {guess, np.nextafter(guess, np.float32(np.inf)), np.nextafter(guess, np.float32(-np.inf))}

    def value(candidate: np.float32) -> Fraction:
        # Rounding treats infinity as the next value after the largest (IEEE 754-2019, 4.3.1).
        return Fraction(float(candidate)) if np.isfinite(candidate) else Fraction(2) ** 128 * int(np.sign(candidate))

    def rank(candidate: np.float32) -> tuple[Fraction, int]:
        return abs(value(candidate) - exact), int(candidate.view(np.int32)) & 1

    return float(min(candidates, key=rank))


def check(*values: float) -> None:
    a, b, c = (np.float32(value) for value in values)
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    assert float(fma32(a, b, c)) == nearest_float32(exact)


@given(FLOATS, FLOATS, FLOATS)
@example(2.0**-100, 2.0**-100, 1.0 + 2.0**-23)
@example(-(2.0**-100), 2.0**-100, 1.0 + 2.0**-23)
@example(3.4028234663852886e38, 1.0, 3.4028234663852886e38)
def test_fma_is_the_exact_result_rounded_once(a: float, b: float, c: float) -> None:
    check(a, b, c)


@given(STEPS, st.integers(-130, 60), STEPS, st.integers(-60, 60))
def test_fma_of_whole_numbers(a: float, small: int, c: float, large: int) -> None:
    check(a, 2.0**small, c * 2.0**large)


@given(st.integers(2**11, 2**12), st.integers(2**12, 2**13), st.integers(-90, 20), st.integers(-20, 90))
def test_fma_sees_what_decides_a_tie(a: int, b: int, scale: int, distance: int) -> None:
    """An odd product from 2^24 to 2^25 lies halfway between two float32 values; what is added decides, however small."""
    product = float(2 * a + 1) * 2.0**scale, float(2 * b + 1)
    for sign in (-1.0, 0.0, 1.0):
        check(*product, sign * 2.0 ** (scale - distance))


@given(SUBNORMALS, FLOATS.filter(lambda value: abs(value) < 4), SUBNORMALS)
@example(2.0**-149, 0.5, 0.0)
@example(3 * 2.0**-149, 0.5, 0.0)
def test_fma_rounds_subnormal_results_once(a: float, b: float, c: float) -> None:
    check(a, b, c)


def test_a_sum_rounded_twice_goes_wrong() -> None:
    """16777217 lies halfway between two float32 values; the exact sum lies above it."""
    a, b, c = np.float32(24929), np.float32(673), np.float32(2.0**-60)
    assert float(np.float32(np.float64(a) * np.float64(b) + np.float64(c))) == 16777216
    assert float(fma32(a, b, c)) == 16777218


def test_fma_broadcasts() -> None:
    result = fma32(np.ones((2, 3), np.float32), np.arange(3, dtype=np.float32), np.float32(1))
    assert result.dtype == np.float32
    assert result.tolist() == [[1, 2, 3]] * 2


@pytest.mark.parametrize(("value", "expected"), [(0.5, 0), (1.5, 2), (254.5, 254), (255.5, 255), (-0.5, 0), (-7, 0)])
def test_uint8_rounds_to_even_and_clips(value: float, expected: int) -> None:
    assert to_uint8(np.array([value, np.inf, -np.inf], np.float32)).tolist() == [expected, 255, 0]


@pytest.mark.parametrize(("value", "expected"), [(-0.5, 0), (-1.5, -2), (-128.5, -128), (-300, -128), (127.5, 127)])
def test_int8_rounds_to_even_and_clips(value: float, expected: int) -> None:
    assert to_int8(np.array([value], np.float32)).tolist() == [expected]
