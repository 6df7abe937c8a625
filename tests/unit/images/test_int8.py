"""Images of engines that take int8."""

from __future__ import annotations

import numpy as np

from cmx4trt.verify.quantization import (
    quantized_image,
)


def test_quantized_image_rounds_to_even_and_clips() -> None:
    values = np.array([0.5, 1.5, -0.5, 200.0, -200.0], np.float32)
    assert quantized_image(values, 1.0).tolist() == [0, 2, 0, 127, -128]
