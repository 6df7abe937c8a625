"""The ranges of 8-bit integers."""

INT8_MIN, INT8_MAX = -128, 127
"""``INT8_MAX`` is also the largest quantized magnitude: int8 is symmetric (zero point 0), the only int8 TensorRT has (its
documentation, Quantized Types)."""
UINT8_MAX = 255
"""Largest quantized value of a nonnegative activation that a flavor stores as uint8 (zero point 0)."""
