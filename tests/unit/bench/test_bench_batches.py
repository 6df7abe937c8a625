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


@given(st.lists(st.integers(1, 40), max_size=20), st.integers(1, 16), st.integers(0, 3))
def test_every_sample_comes_once_in_order_and_batches_are_as_full_as_can_be(
    queries: list[int], size: int, early: int
) -> None:
    queue, taken, total = BatchQueue(size, patience=60.0), [], 0
    for number, count in enumerate(queries):
        if sum(queries[: number + 1]) <= size * MAX_WAITING_BATCHES:
            queue.put(_numbers(total, count), _numbers(1000 + total, count))
            total += count
        if number < early and (batch := queue.take(block=False)):
            assert len(batch.ids) == size  # patience is long: only full ones are ready
            taken.append(batch)
    queue.flush()
    while (batch := queue.take(block=False)) is not None:
        taken.append(batch)
    assert [i for batch in taken for i in batch.ids] == _numbers(0, total)
    assert [i for batch in taken for i in batch.indices] == _numbers(1000, total)
    assert all(len(batch.ids) == size for batch in taken[:-1])


def test_a_partial_batch_waits_for_its_oldest_sample_only() -> None:
    queue = BatchQueue(4, patience=0.05)
    start = time.perf_counter()
    queue.put([1], [1])
    queue.put([2], [2])
    batch = queue.take()
    assert batch is not None
    assert batch.ids == [1, 2]
    assert time.perf_counter() - start >= 0.05


def test_a_full_batch_does_not_wait() -> None:
    queue = BatchQueue(2, patience=3600)
    queue.put([1], [1])
    queue.put([2], [2])
    assert queue.take() == Batch([1, 2], [1, 2])


def test_a_sleeping_taker_is_woken_by_the_sample_that_fills_the_batch() -> None:
    queue, taken = BatchQueue(2, patience=3600), []
    thread = threading.Thread(target=lambda: taken.append(queue.take()))
    thread.start()
    for number in (1, 2):
        time.sleep(0.02)
        queue.put([number], [number])
    thread.join(20)
    assert taken == [Batch([1, 2], [1, 2])]


def test_after_a_flush_further_queries_wait_again() -> None:
    queue = BatchQueue(4, patience=3600)
    queue.put([1], [1])
    queue.flush()
    assert queue.take() == Batch([1], [1])
    queue.put([2], [2])
    assert queue.take(block=False) is None


def test_close_gives_the_rest_and_then_none() -> None:
    queue = BatchQueue(4, patience=3600)
    queue.put([1], [1])
    queue.close()
    assert queue.take() == Batch([1], [1])
    assert queue.take() is None


def test_putting_blocks_while_too_much_waits() -> None:
    queue = BatchQueue(1, patience=0)
    count = MAX_WAITING_BATCHES + 10
    thread = threading.Thread(target=lambda: [queue.put([i], [i]) for i in range(count)])
    thread.start()
    time.sleep(0.1)
    assert queue._put <= MAX_WAITING_BATCHES + 1
    assert [queue.take().ids for _ in range(count)] == [[i] for i in range(count)]  # type: ignore[union-attr]
    thread.join(20)
    assert not thread.is_alive()


def test_close_lets_a_blocked_putter_go() -> None:
    queue = BatchQueue(1, patience=0)
    thread = threading.Thread(target=lambda: [queue.put([i], [i]) for i in range(MAX_WAITING_BATCHES + 10)])
    thread.start()
    time.sleep(0.1)
    queue.close()
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize("takers", [1, 3])
def test_nothing_is_lost_between_threads(takers: int) -> None:
    queue, taken, total = BatchQueue(7, patience=0.001), [], 20_000

    def take() -> None:
        while (batch := queue.take()) is not None:
            assert batch.indices == batch.ids
            taken.append(batch.ids)

    threads = [threading.Thread(target=take) for _ in range(takers)]
    for thread in threads:
        thread.start()
    for number in range(total):
        queue.put([number], [number])
    queue.flush()
    queue.close()
    for thread in threads:
        thread.join(60)
    assert sorted(i for ids in taken for i in ids) == list(range(total))
    assert max(map(len, taken)) <= 7
