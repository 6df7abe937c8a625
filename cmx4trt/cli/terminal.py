"""Progress on a terminal (one line that moves) or in a log (plain lines)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_BAR = 24
"""Characters of the progress bar."""


class TerminalProgress:
    """Writes stages with their elapsed time; on a terminal also a bar of the running stage. Threads may report at once."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._lock = threading.Lock()
        self._start = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announce the stage, and how long it took."""
        start = time.perf_counter()
        self._write(f"{name} ...")
        outcome = "failed"
        try:
            yield
            outcome = "done"
        finally:
            self._write(f"{name} {outcome} in {time.perf_counter() - start:.2f} s")

    def step(self, name: str, done: int, total: int) -> None:
        """Redraw the bar; in a log, steps are silent."""
        if not self._is_terminal or total <= 0:
            return
        filled = _BAR * min(done, total) // total
        with self._lock:
            self._stream.write(f"\r\033[K  [{'#' * filled}{'.' * (_BAR - filled)}] {done}/{total} {name[:40]}")
            self._stream.flush()

    def note(self, text: str) -> None:
        """A line of its own."""
        self._write(f"note: {text}")

    def _write(self, text: str) -> None:
        clear = "\r\033[K" if self._is_terminal else ""
        elapsed = time.perf_counter() - self._start
        with self._lock:
            self._stream.write(f"{clear}[{elapsed:7.2f} s] {text}\n")
            self._stream.flush()
