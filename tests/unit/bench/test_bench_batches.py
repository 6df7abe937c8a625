"""Queries to batches."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmx4trt.bench.batches import MAX_WAITING_BATCHES, Batch, BatchQueue


def _numbers(start: int, count: int) -> list[int]:
    return list(range(start, start + count))


SIZES = st.lists(st.integers(1, 16), min_size=1, max_size=5)


@given(st.lists(st.integers(1, 40), max_size=20), SIZES, st.integers(0, 5))
def test_every_sample_comes_once_in_order_and_batches_are_the_largest_size_that_waits(
    queries: list[int], sizes: list[int], early: int
) -> None:
    queue, taken, total, done = BatchQueue(sizes), [], 0, 0

    def take() -> bool:
        nonlocal done
        batch, waiting = queue.take(block=False), total - done
        if batch is not None:
            assert len(batch.ids) == max((size for size in sizes if size <= waiting), default=waiting)
            done += len(batch.ids)
            taken.append(batch)
        return batch is not None

    for number, count in enumerate(queries):
        if sum(queries[: number + 1]) <= max(sizes) * MAX_WAITING_BATCHES:
            queue.put(_numbers(total, count), _numbers(1000 + total, count))
            total += count
        if number < early:
            take()
    while take():
        pass
    assert done == total
    assert [i for batch in taken for i in batch.ids] == _numbers(0, total)
    assert [i for batch in taken for i in batch.indices] == _numbers(1000, total)


def test_a_first_sample_does_not_wait() -> None:
    queue = BatchQueue([4, 8])
    queue.put([1], [1])
    assert queue.take() == Batch([1], [1])
    assert queue.take(block=False) is None


def test_a_sleeping_taker_is_woken_by_the_first_sample() -> None:
    queue, taken = BatchQueue([2]), []
    thread = threading.Thread(target=lambda: taken.append(queue.take()))
    thread.start()
    time.sleep(0.02)
    queue.put([1], [1])
    thread.join(20)
    assert taken == [Batch([1], [1])]


def test_one_query_for_all_wakes_all_takers() -> None:
    queue, together, everybody = BatchQueue([2]), threading.Barrier(3, timeout=20), []

    def take() -> None:
        everybody.append(queue.take())
        together.wait()  # nobody takes a second batch before all have a first one

    threads = [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    while queue._takers < 3:
        time.sleep(0.001)
    queue.put(_numbers(0, 100), _numbers(0, 100))
    for thread in threads:
        thread.join(30)
    assert len(everybody) == 3
    assert not together.broken


def test_close_gives_the_rest_and_then_none() -> None:
    queue = BatchQueue([4])
    queue.put([1], [1])
    queue.close()
    assert queue.take() == Batch([1], [1])
    assert queue.take() is None


def test_putting_blocks_while_too_much_waits() -> None:
    queue = BatchQueue([1])
    count = MAX_WAITING_BATCHES + 10
    thread = threading.Thread(target=lambda: [queue.put([i], [i]) for i in range(count)])
    thread.start()
    time.sleep(0.1)
    assert queue._put <= MAX_WAITING_BATCHES + 1
    assert [queue.take().ids for _ in range(count)] == [[i] for i in range(count)]  # type: ignore[union-attr]
    thread.join(20)
    assert not thread.is_alive()


def test_close_lets_a_blocked_putter_go() -> None:
    queue = BatchQueue([1])
    thread = threading.Thread(target=lambda: [queue.put([i], [i]) for i in range(MAX_WAITING_BATCHES + 10)])
    thread.start()
    time.sleep(0.1)
    queue.close()
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize("takers", [1, 3])
def test_nothing_is_lost_between_threads(takers: int) -> None:
    queue, taken, total = BatchQueue([1, 3, 7]), [], 20_000

    def take() -> None:
        while (batch := queue.take()) is not None:
            assert batch.indices == batch.ids
            taken.append(batch.ids)

    threads = [threading.Thread(target=take) for _ in range(takers)]
    for thread in threads:
        thread.start()
    for number in range(total):
        queue.put([number], [number])
    queue.close()
    for thread in threads:
        thread.join(60)
    assert sorted(i for ids in taken for i in ids) == list(range(total))
    assert max(map(len, taken)) <= 7
