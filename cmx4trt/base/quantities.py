"""Numbers as people read them, in reports and results alike."""

from __future__ import annotations


def rounded(value: float, digits: int = 3) -> str:
    """``value`` with so many significant digits, and with all that stand before the point: 0.0606, 123.5, 12,346.

    Thousands are grouped. Only what is smaller than 0.0001 has an exponent.
    """
    return f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:,.{digits}g}"


def binary_size(size: int) -> str:
    """Bytes in the largest unit of powers of two that says them exactly: 4 GiB, 1536 MiB."""
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >> shift and not size % (1 << shift):
            return f"{size >> shift} {unit}"
    return f"{size:,} bytes"


def decimal_size(size: float) -> str:
    """Bytes of a file or of memory as kB, MB or GB (powers of ten)."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size:,.0f} bytes"
