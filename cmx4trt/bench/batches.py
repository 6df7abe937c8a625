"""LoadGen's queries -> batches: one bounded queue between LoadGen's thread and those that feed the copy streams."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from time import perf_counter

MAX_WAITING_BATCHES = 64
"""Queries of more samples than this many batches stop LoadGen's thread until some are taken. An overloaded Server run would
otherwise pile up a Python object for every query; LoadGen counts latency from the scheduled time, so waiting hides nothing."""


@dataclass(slots=True)
class Batch:
    """Samples to run together: LoadGen's response ids, and their indices in the data set."""

    ids: list[int]
    indices: list[int]


class BatchQueue:
    """Joins small queries to batches of at most ``size`` samples and cuts large ones.

    A batch that is not full waits for more samples until its oldest has waited ``patience`` seconds, or LoadGen says that no
    more will come. One thread puts; any number take.
    """

    def __init__(self, size: int, patience: float) -> None:
        self._size = size
        self._patience = patience
        self._bound = size * MAX_WAITING_BATCHES
        self._queries: deque[tuple[list[int], list[int], float]] = deque()
        self._offset = 0  # samples of the first query that were taken already
        self._put = 0  # written by the putting thread only; read without the lock
        self._taken = 0  # written under the lock
        self._takers = 0  # threads asleep in ``take``
        self._wake_at = 1  # how many waiting samples are worth waking one
        self._flushed = self._closed = False
        lock = threading.Lock()
        self._condition, self._space = threading.Condition(lock), threading.Condition(lock)

    def put(self, ids: list[int], indices: list[int]) -> None:
        """Append a query; the lists are kept. Blocks while ``MAX_WAITING_BATCHES`` batches wait."""
        if self._put - self._taken > self._bound:
            with self._space:
                self._space.wait_for(lambda: self._closed or self._put - self._taken <= self._bound)
        self._flushed = False
        self._queries.append((ids, indices, perf_counter()))
        self._put += len(ids)
        # Without a lock: who falls asleep raises ``_takers`` first and looks again before sleeping.
        if self._takers and self._put - self._taken >= self._wake_at:
            with self._condition:
                self._condition.notify()

    def flush(self) -> None:
        """No more samples will come for now: do not wait for full batches."""
        self._flushed = True
        with self._condition:
            self._condition.notify_all()

    def close(self) -> None:
        """Nothing more will be put: takers get None once the queue is empty."""
        self._closed = True
        with self._condition:
            self._condition.notify_all()
            self._space.notify_all()

    def take(self, block: bool = True) -> Batch | None:
        """The next batch; None when there is none ready (``block`` false) or there will never be one."""
        with self._condition:
            while not self._is_ready():
                if not block or (self._closed and not self._queries):
                    return None
                self._sleep()
            batch = self._cut()
            self._space.notify()
            return batch

    def _is_ready(self) -> bool:
        waiting = self._put - self._taken
        if waiting <= 0:
            return False
        if waiting >= self._size or self._flushed or self._closed:
            return True
        return perf_counter() - self._queries[0][2] >= self._patience

    def _sleep(self) -> None:
        """Wait for a first sample; or, when some wait, for a full batch or the end of the oldest one's patience."""
        waiting = self._put - self._taken
        self._wake_at = self._size if waiting > 0 else 1
        timeout = self._queries[0][2] + self._patience - perf_counter() if waiting > 0 else None
        self._takers += 1
        try:
            # A sample that came between the look and ``_takers`` did not wake us: look again.
            if self._put - self._taken < self._wake_at and not (self._closed or (self._flushed and waiting > 0)):
                self._condition.wait(timeout)
        finally:
            self._takers -= 1

    def _cut(self) -> Batch:
        """Take up to ``size`` samples from the front."""
        ids, indices, _ = self._queries[0]
        start, room = self._offset, self._size
        batch = Batch(ids[start : start + room], indices[start : start + room])
        self._advance(len(ids), len(batch.ids))
        while len(batch.ids) < room and self._taken < self._put:
            ids, indices, _ = self._queries[0]
            count = min(room - len(batch.ids), len(ids))
            batch.ids += ids[:count]
            batch.indices += indices[:count]
            self._advance(len(ids), count)
        self._wake_at = 1
        return batch

    def _advance(self, length: int, count: int) -> None:
        self._taken += count
        self._offset += count
        if self._offset >= length:
            self._queries.popleft()
            self._offset = 0
