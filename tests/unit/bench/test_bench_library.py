"""Samples in memory: slices where that is possible, gathered and padded batches where not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmx4trt.bench.library import SampleLibrary
from cmx4trt.bench.memory import free_memory
from cmx4trt.bench.sut import Failure
from cmx4trt.errors import DataError, DeviceError
from cmx4trt.sessions.null import NullSession
from cmx4trt.store.results import SampleMemory


class Images:
    shape = (1, 1, 1)
    description = ""
    complete = False
    truth = None

    def __len__(self) -> int:
        return 1000

    def read(self, index: int, out: Any) -> None:
        out[...] = index


class Session(NullSession):
    inputs = ("input",)

    def __init__(self, min_batch: int = 1) -> None:
        super().__init__(64)
        self.min_batch = min_batch
        self.allocated: list[Any] = []

    def input_dtype(self, name: str) -> str:
        return "float32"

    def allocate(self, shape: tuple[int, ...], dtype: str) -> Any:
        self.allocated.append(super().allocate(shape, dtype))
        return self.allocated[-1]


def library_of(session: Any, indices: list[int]) -> SampleLibrary:
    library = SampleLibrary(Images(), session, Failure())
    library.load(indices)
    return library


def values(feeds: Any) -> list[float]:
    return list(feeds["input"].reshape(-1))


@given(st.permutations(range(30)), st.data())
def test_a_batch_holds_the_samples_it_was_asked_for(order: list[int], data: Any) -> None:
    session = Session()
    feed = library_of(session, order).feeder(1, 16)
    start = data.draw(st.integers(0, 29))
    chosen = data.draw(
        st.one_of(
            st.just(order[start : start + 16]),
            st.lists(st.sampled_from(order), min_size=1, max_size=16),
        )
    )
    assert values(feed(chosen)) == chosen


def test_samples_in_the_order_they_were_loaded_are_not_copied() -> None:
    session = Session()
    library = library_of(session, [7, 3, 9, 1, 5])
    feed = library.feeder(1, 4)
    assert np.shares_memory(feed([3, 9, 1])["input"], session.allocated[0])
    assert not np.shares_memory(feed([3, 9, 5])["input"], session.allocated[0])
    assert values(feed([5, 7])) == [5, 7]  # round the corner


@pytest.mark.parametrize("chosen", [[3], [3, 9], [9, 7, 3]])
def test_small_batches_are_padded_with_their_last_sample(chosen: list[int]) -> None:
    feed = library_of(Session(min_batch=4), [7, 3, 9, 1, 5]).feeder(1, 2)
    assert values(feed(chosen)) == chosen + [chosen[-1]] * (4 - len(chosen))


def test_a_batch_stays_as_it_is_until_depth_further_ones() -> None:
    feed = library_of(Session(), [0, 1, 2, 3]).feeder(2, 2)
    first, second = feed([2, 0]), feed([3, 1])
    assert (values(first), values(second)) == ([2, 0], [3, 1])
    third = feed([1, 0])
    assert (values(second), values(third)) == ([3, 1], [1, 0])


def test_a_second_set_takes_the_place_of_the_first() -> None:
    session = Session()
    library = library_of(session, [1, 2, 3])
    library.load([8, 9])
    assert len(session.allocated) == 1
    assert values(library.feeder(1, 2)([9, 8])) == [9, 8]


def test_a_session_without_inputs_needs_no_memory() -> None:
    session = NullSession(4)
    library = SampleLibrary(Images(), session, Failure())
    library.load(list(range(10)))
    assert library.feeder(1, 4)([1, 2]) == {}


def test_samples_that_memory_cannot_hold_are_one_sentence() -> None:
    class Small(Session):
        def allocate(self, shape: tuple[int, ...], dtype: str) -> Any:
            raise MemoryError

    failure = Failure()
    SampleLibrary(Images(), Small(), failure).load([1, 2, 3])
    assert isinstance(failure.error, DataError)
    assert str(failure.error).startswith(
        "3 samples of [1, 1, 1] float32 take 1.2e-05 MB and do not fit into memory; lower"
    )


class Gathering(Session):
    gathers = True

    def __init__(self, min_batch: int = 1, refuses: bool = False) -> None:
        super().__init__(min_batch)
        self.refuses = refuses

    def allocate(self, shape: tuple[int, ...], dtype: str) -> Any:
        if self.refuses:
            raise DeviceError("could not allocate page-locked memory on a GPU: it is out of memory")
        return super().allocate(shape, dtype)


@given(st.permutations(range(30)), st.lists(st.integers(0, 29), min_size=1, max_size=16), st.integers(1, 5))
def test_a_session_that_gathers_is_told_rows(order: list[int], chosen: list[int], min_batch: int) -> None:
    session = Gathering(min_batch)
    feed = library_of(session, order).feeder(2, 16)(chosen)["input"]
    padded = chosen + chosen[-1:] * (min_batch - len(chosen))
    assert list(feed.array().reshape(-1)) == padded
    assert feed.shape == (len(padded), 1, 1, 1)
    assert feed.samples is session.allocated[0]
    begin, counts = feed.runs()
    assert [row for b, n in zip(begin, counts, strict=True) for row in range(feed.rows[b], feed.rows[b] + n)] == list(
        feed.rows
    )
    assert len(session.allocated) == 1


def test_memory_is_taken_once_and_told() -> None:
    session, notes = Gathering(), []
    library = SampleLibrary(Images(), session, Failure(), notes.append)
    assert library.held is None
    library.reserve(40)
    for count in (8, 40):
        library.load(list(range(count)))
    assert len(session.allocated) == 1
    assert library.held == SampleMemory(40, 160, fetched_by_the_gpu=True)
    assert notes == []


def test_where_page_locked_memory_is_refused_the_cpu_gathers_and_the_user_hears_of_it() -> None:
    notes: list[str] = []
    library = SampleLibrary(Images(), Gathering(refuses=True), Failure(), notes.append)
    library.load([7, 3, 9, 1, 5])
    assert values(library.feeder(1, 4)([5, 7, 1])) == [5, 7, 1]
    assert library.held.fetched_by_the_gpu is False
    (note,) = notes
    assert note.startswith(
        "5 samples of [1, 1, 1] float32 take 2e-05 MB, which cannot be page-locked (could not allocate"
    )
    assert note.endswith("the CPU gathers batches, which is slower")


def test_samples_that_exceed_the_free_memory_are_refused_before_any_is_taken() -> None:
    session = Gathering()

    def library() -> SampleLibrary:
        return SampleLibrary(Images(), session, Failure(), free_memory=lambda: 1_000_000)

    library().reserve(250_000)
    with pytest.raises(
        DataError, match=r"250001 samples of \[1, 1, 1\] float32 take 1 MB of memory, but 1 MB are free; lower"
    ):
        library().reserve(250_001)
    assert len(session.allocated) == 1


def test_free_memory_is_the_systems_or_the_containers() -> None:
    files = {"/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    4194304 kB\n"}

    def text_of(path: str) -> str:
        return files.get(path, "")

    assert free_memory(text_of) == (4 << 30) - (256 << 20)
    files |= {"/sys/fs/cgroup/memory.max": "max\n", "/sys/fs/cgroup/memory.current": "77\n"}
    assert free_memory(text_of) == (4 << 30) - (256 << 20)
    files["/sys/fs/cgroup/memory.max"] = f"{1 << 30}\n"
    assert free_memory(text_of) == (1 << 30) - 77 - (256 << 20)
    files.clear()
    assert free_memory(text_of) is None
