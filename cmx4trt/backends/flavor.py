"""How a backend's INT8 kernels want networks to be quantized, as data."""

from __future__ import annotations

from dataclasses import dataclass

from cmx4trt.ir.model import DType


@dataclass(frozen=True, slots=True)
class QuantizationFlavor:
    """How a network is quantized for one kind of kernel; the defaults are TensorRT's.

    - ``rest``: type of what is not quantized; scales are values of this type
    - ``unsigned``: nonnegative activations are uint8 with 255 steps, zero point 0, instead of int8 with 127
    - ``stored_shortcuts``: if both addends of a residual block are convolutions, the shortcut's result is quantized;
      otherwise both are added before anything is rounded
    - ``classifier``: the matrix product that computes the network's output runs in INT8, too
    """

    rest: DType = DType.FLOAT16
    unsigned: bool = False
    stored_shortcuts: bool = True
    classifier: bool = False

    def describe(self, method: str) -> str:
        """A calibration method, with the properties of the flavor that affect its ranges."""
        parts = [method]
        if self.unsigned:
            parts.append("uint8 where nothing is negative")
        if self.classifier:
            parts.append("classifier in INT8")
        if not self.stored_shortcuts:
            parts.append("no ranges of shortcut convolutions")
        return ", ".join(parts)


TENSORRT = QuantizationFlavor()
"""int8 everywhere, and float16 for the rest: the only 8-bit integer type TensorRT has (its documentation, Quantized Types)."""
