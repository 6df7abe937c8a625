"""Numbers as people read them, in reports and results alike."""

from __future__ import annotations


def rounded(value: float, digits: int = 3) -> str:
    """``value`` with so many significant digits, and with all that stand before the point: 0.0606, 123.5, 12,346.

    Thousands are grouped. Only what is smaller than 0.0001 has an exponent.
    """
    return f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:,.{digits}g}"
