"""Images through sessions with batch sizes and axes of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from cmx4trt.sessions.batches import as_file_takes, run_in_batches, run_one_by_one

IMAGES = np.arange(5 * 2 * 3 * 4, dtype=np.float64).reshape(5, 2, 3, 4)


class Sums:
    """Takes images of a declared shape, and answers the sum of each; remembers the batches."""

    inputs = ("x",)

    def __init__(self, shape: tuple[Any, ...], max_batch: int | None = None) -> None:
        self._shape = shape
        self.max_batch = max_batch
        self.batches: list[tuple[int, ...]] = []

    def input_shape(self, name: str) -> tuple[Any, ...]:
        return self._shape

    def input_dtype(self, name: str) -> str:
        return "float32"

    def run(self, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        images = feeds["x"]
        assert images.dtype == np.float32
        self.batches.append(images.shape)
        return {"sum": images.reshape(len(images), -1).sum(1, keepdims=True)}


SUMS = IMAGES.reshape(5, -1).sum(1, keepdims=True)


@pytest.mark.parametrize(("max_batch", "sizes"), [(None, [5]), (2, [2, 2, 1]), (8, [5])])
def test_a_batch_is_at_most_as_large_as_the_session_takes(max_batch: int | None, sizes: list[int]) -> None:
    session: Any = Sums(("N", 2, 3, 4), max_batch)
    np.testing.assert_array_equal(run_in_batches(session, IMAGES)["sum"], SUMS)
    assert [shape[0] for shape in session.batches] == sizes


@pytest.mark.parametrize(("batch", "size"), [("N", 1), (4, 4)])
def test_a_fixed_batch_is_filled_with_one_image(batch: Any, size: int) -> None:
    session: Any = Sums((batch, 2, 3, 4))
    np.testing.assert_array_equal(run_one_by_one(session, IMAGES, "sum"), SUMS)
    assert session.batches == [(size, 2, 3, 4)] * 5


def test_channels_come_last_where_the_file_has_them_there() -> None:
    session: Any = Sums(("N", 3, 4, 2))
    assert as_file_takes(session, IMAGES).shape == (5, 3, 4, 2)
    np.testing.assert_array_equal(run_one_by_one(session, IMAGES, "sum"), SUMS)
