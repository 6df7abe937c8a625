"""Numbers as people read them."""

from __future__ import annotations

import pytest

from cmx4trt.base.quantities import rounded


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (12345.6, 4, "12,346"),
        (9999.96, 4, "10,000"),
        (1234.5, 4, "1,234"),
        (999.96, 4, "1,000"),
        (123.456, 4, "123.5"),
        (-12345.6, 4, "-12,346"),
        (4505.1, 3, "4,505"),
        (99.96, 3, "100"),
        (0.0606, 3, "0.0606"),
        (0, 3, "0"),
        (1_234_567.8, 6, "1,234,568"),
        (0.00000123, 3, "1.23e-06"),
    ],
)
def test_all_digits_before_the_point_and_no_exponent(value: float, digits: int, text: str) -> None:
    assert rounded(value, digits) == text
