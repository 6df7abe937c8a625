"""Which batch sizes Server forms."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cmx4trt.backends.hopper.slot import GRAPHS
from cmx4trt.bench.sizes import batch_sizes, measure_times, sizes_within


@given(st.integers(1, 2000), st.data())
def test_sizes_lie_so_close_that_little_waits_for_the_next_batch(largest: int, data: Any) -> None:
    smallest = data.draw(st.integers(1, largest))
    sizes = batch_sizes(smallest, largest)
    assert (sizes[0], sizes[-1]) == (smallest, largest)
    assert all(one < other <= max(one + 1, one * 1.25) for one, other in pairwise(sizes))


def test_the_sizes_of_the_largest_hopper_engine_are_all_kept_as_graphs() -> None:
    assert len(batch_sizes(1, 1024)) <= GRAPHS // 1.5


def test_sizes_keep_the_bound_with_all_that_may_be_under_way() -> None:
    times = {1: 0.001, 8: 0.002, 64: 0.005, 256: 0.006, 512: 0.04}
    assert sizes_within(times, 0.015, depth=2) == (1, 8, 64)
    assert sizes_within(times, 0.012, depth=1) == (1, 8, 64, 256)
    assert sizes_within(times, 0.0001, depth=2) == (1,), (
        "a bound that nothing keeps makes the run INVALID, not impossible"
    )


class Slow:
    """Counts what it is asked; its clock is turned by what it computes."""

    depth = 2

    def __init__(self) -> None:
        self.clock = 0.0
        self.submitted: list[int] = []

    def execute(self, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        self.submitted.append(len(feeds["x"]))
        first = self.submitted.count(self.submitted[-1]) <= self.depth
        self.clock += self.submitted[-1] + (100 if first else 0)
        return {}


def test_the_table_leaves_out_what_is_done_once_and_ends_where_batches_take_too_long() -> None:
    stream = Slow()
    sizes = (1, 2, 4, 8, 16)
    times = measure_times(stream, lambda indices: {"x": indices}, range(64), sizes, 7.0, lambda: stream.clock)
    assert times == {1: 1.0, 2: 2.0, 4: 4.0, 8: 8.0}
    assert stream.submitted == [1] * 4 + [2] * 4 + [4] * 4 + [8] * 4
