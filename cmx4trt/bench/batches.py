"""LoadGen's queries -> batches: one bounded queue between LoadGen's thread and the threads that feed the copy streams."""

from __future__ import annotations

import threading
from bisect import bisect
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

MAX_WAITING_BATCHES = 64
"""LoadGen's thread blocks while more samples than this many batches are waiting. An overloaded Server run would
otherwise pile up a Python object for every query; LoadGen counts latency from the scheduled time, so blocking hides nothing."""


@dataclass(slots=True)
class Batch:
    """Samples to run together: LoadGen's response ids, and their indices in the data set."""

    ids: list[int]
    indices: list[int]


class BatchQueue:
    """Merges small queries into batches and splits large ones; nothing waits for a batch to fill.

    Each copy stream keeps ``depth`` batches in flight. So samples wait only while the batches before them are computed, and the
    more arrive in that time, the larger the next batch. Its size is the largest of ``sizes`` that can be filled, so that there
    are few batch sizes (each needs a CUDA graph), or everything in the queue if that is less than the smallest. One thread
    puts; any number take.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = sorted(sizes)
        self._bound = self._sizes[-1] * MAX_WAITING_BATCHES
        self._queries: deque[tuple[list[int], list[int]]] = deque()
        self._offset = 0  # samples of the first query that have already been taken
        self._put = 0  # written by the putting thread only; read without the lock
        self._taken = 0  # written under the lock
        self._takers = 0  # threads asleep in ``take``
        self._closed = False
        lock = threading.Lock()
        self._condition, self._space = threading.Condition(lock), threading.Condition(lock)

    def put(self, ids: list[int], indices: list[int]) -> None:
        """Append a query; the lists are kept. Blocks while ``MAX_WAITING_BATCHES`` batches wait."""
        if self._put - self._taken > self._bound:
            with self._space:
                self._space.wait_for(lambda: self._closed or self._put - self._taken <= self._bound)
        self._queries.append((ids, indices))
        self._put += len(ids)
        # Without a lock: a taker increments ``_takers`` first and checks again before it sleeps.
        if self._takers:
            with self._condition:
                self._condition.notify()

    def close(self) -> None:
        """No more queries will be put: takers get None once the queue is empty."""
        self._closed = True
        with self._condition:
            self._condition.notify_all()
            self._space.notify_all()

    def take(self, block: bool = True) -> Batch | None:
        """The next batch; None if the queue is empty (``block`` false) or closed."""
        with self._condition:
            while self._put == self._taken:
                if not block or self._closed:
                    return None
                self._sleep()
            batch = self._cut()
            if self._takers and self._put > self._taken:
                self._condition.notify()  # one query may contain work for all, but wakes only one
            self._space.notify()
            return batch

    def _sleep(self) -> None:
        self._takers += 1
        try:
            # A sample that arrived between the check and ``_takers`` did not wake us: check again.
            if self._put == self._taken and not self._closed:
                self._condition.wait()
        finally:
            self._takers -= 1

    def _cut(self) -> Batch:
        """Take samples from the front."""
        waiting = self._put - self._taken
        size = self._sizes[max(0, bisect(self._sizes, waiting) - 1)]
        ids, indices = self._queries[0]
        start = self._offset
        batch = Batch(ids[start : start + size], indices[start : start + size])
        self._advance(len(ids), len(batch.ids))
        while len(batch.ids) < size and self._taken < self._put:
            ids, indices = self._queries[0]
            count = min(size - len(batch.ids), len(ids))
            batch.ids += ids[:count]
            batch.indices += indices[:count]
            self._advance(len(ids), count)
        return batch

    def _advance(self, length: int, count: int) -> None:
        self._taken += count
        self._offset += count
        if self._offset >= length:
            self._queries.popleft()
            self._offset = 0
