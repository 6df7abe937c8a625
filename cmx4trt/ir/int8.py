"""The ranges of 8-bit integers."""

INT8_MIN, INT8_MAX = -128, 127
"""``INT8_MAX`` is also the largest quantized magnitude: int8 is symmetric (zero point 0), the only int8 TensorRT has (its
documentation, Quantized Types)."""
UINT8_MAX = 255
"""Largest quantized value of an activation that cannot be negative, where a flavour stores it as uint8 (zero point 0)."""
