"""Calls in threads of their own, with their results or exceptions handed back."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

STOP_SECONDS = 10.0
"""How long the end of Python waits for a thread that is in a library."""


class Background(Generic[T]):
    """Runs ``function`` at once in a daemon thread; ``result()`` waits, and raises what the function raised.

    (``concurrent.futures`` does the same and more; importing it costs as much as the rest of a reuse hit.)
    """

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._value: T | None = None
        self._error: BaseException | None = None
        # Not Thread.join: interrupted once, CPython 3.11's takes the thread for ended (bpo-45274).
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._function()
        except BaseException as error:  # handed to whoever asks for the result
            self._error = error
        finally:
            self._ended.set()

    def wait(self, seconds: float) -> bool:
        """Wait at most so long; whether the function has ended."""
        return self._ended.wait(seconds)

    def outlast(self) -> None:
        """Have Python's end wait for the function, which may be in a library then: that would crash Python on its way out.

        A process that leaves without Python's end, as the command line does when it is interrupted, does not wait.
        """
        atexit.register(self.wait, STOP_SECONDS)

    def result(self) -> T:
        """The function's value, once it has ended."""
        self._ended.wait()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]


MAX_READERS = 8
"""Threads that read and hash files; more wait for the disk."""


def in_threads(calls: Sequence[Callable[[], T]]) -> list[T]:
    """The results of all ``calls``, in their order, by as many threads as there are processors, at most MAX_READERS.

    After a call that fails no other is begun; what the first of those raised is raised.
    """
    results: list[T | None] = [None] * len(calls)
    waiting = iter(enumerate(calls))  # a list's iterator gives each item to one thread only
    failed = False

    def work() -> None:
        nonlocal failed
        for index, call in waiting:
            if failed:
                return
            try:
                results[index] = call()
            except BaseException:
                failed = True
                raise

    count = min(len(os.sched_getaffinity(0)), MAX_READERS, len(calls))
    if count == 1:
        work()
    else:
        for thread in [Background(work) for _ in range(count)]:
            thread.result()
    return results  # type: ignore[return-value]
