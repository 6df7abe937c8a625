"""Conversion to int8 inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmx4trt.ir.int8 import INT8_MAX, INT8_MIN

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def quantized_image(image: NDArray[np.float32], scale: float) -> NDArray[np.int8]:
    """An image of any shape converted for an int8 input: divided by ``scale``, rounded to nearest even, clipped to -128 ..
    127."""
    import numpy as np

    integers: NDArray[np.int8] = np.clip(np.rint(image / np.float32(scale)), INT8_MIN, INT8_MAX).astype(np.int8)
    return integers
