"""float32 arithmetic bit for bit as on a GPU (PTX ISA, fma.rn.f32 and cvt.rni.sat), in numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DROPPED = (1 << 29) - 1
"""Significand bits that float64 has beyond float32."""
_HALF = 1 << 28
SMALLEST_NORMAL = 2.0**-126
"""Below it float32 values have fewer bits (subnormals), so ties are elsewhere."""


def fma32(a: Any, b: Any, c: Any) -> NDArray[np.float32]:
    """a * b + c rounded once, to the nearest float32, ties to even; float32 arrays or scalars, broadcast.

    The product of two float32 values is exact in float64; the sum is not. Rounding it to float64 first is wrong only if
    that result is halfway between two float32 values: then the sum is rounded to odd (S. Boldo, G. Melquiond, "Emulation
    of a FMA and correctly rounded sums", IEEE TC 57, 2008), which preserves whether anything was cut off.
    """
    import numpy as np

    product = np.asarray(np.multiply(a, b, dtype=np.float64))
    addend = np.asarray(c, np.float64)
    total = np.asarray(product + addend)
    doubtful = (total.view(np.int64) & _DROPPED) == _HALF
    doubtful |= np.abs(total) < SMALLEST_NORMAL
    if doubtful.any():
        parts = [np.broadcast_to(part, total.shape)[doubtful] for part in (product, addend)]
        total[doubtful] = _sum_to_odd(*parts)
    with np.errstate(over="ignore", under="ignore"):
        return total.astype(np.float32)


def _sum_to_odd(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """a + b in float64, rounded to odd: if it is not exact, the neighbor whose last bit is one."""
    import numpy as np

    total = a + b
    part = total - a
    error = (a - (total - part)) + (b - part)  # exact (D. Knuth, TAOCP 2, 4.2.2, theorem B)
    even = (total.view(np.int64) & 1) == 0
    other = np.nextafter(total, np.copysign(np.inf, error))
    return np.where((error != 0) & even, other, total)


def to_uint8(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Rounded to the nearest integer, ties to even, and clipped to 0 .. 255."""
    import numpy as np

    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def to_int8(values: NDArray[np.float32]) -> NDArray[np.int8]:
    """Rounded to the nearest integer, ties to even, and clipped to -128 .. 127."""
    import numpy as np

    return np.clip(np.rint(values), -128, 127).astype(np.int8)
