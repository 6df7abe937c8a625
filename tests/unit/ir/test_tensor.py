"""Constants."""

from __future__ import annotations

import numpy as np
import pytest

from cmx4trt.ir.model import Tensor


@pytest.mark.parametrize(
    "array", [np.float32(3.5), np.zeros((0, 4), np.int64), np.arange(6, dtype=np.int8).reshape(2, 3).T]
)
def test_from_numpy_keeps_shape_and_values(array) -> None:
    array = np.asarray(array)
    tensor = Tensor.from_numpy("t", array)
    assert tensor.dims == array.shape
    assert tensor.numpy().dtype == array.dtype
    assert np.array_equal(tensor.numpy(), array)
