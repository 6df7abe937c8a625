"""One call in a thread of its own, with its result or exception handed back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


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

    def result(self) -> T:
        """The function's value, once it has ended."""
        self._ended.wait()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]
