"""Progress on a terminal (one updating line) or in a log (plain lines). Long operations show that they are still running."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from cmx4trt.base.damage import printable
from cmx4trt.base.progress import QUIET

_BAR = 24
"""Width of the progress bar in characters, if there is room."""
_LEAST_BAR = 8
"""A shorter bar is useless: only the figures are shown."""
_NAME = 40
"""Number of characters of a step's name that are shown."""
_MOVES = 1.0
"""Seconds between updates of the line on a terminal."""
_LOGS = 10.0
"""Seconds between lines in a log that only say that work is still in progress."""


class TerminalProgress:
    """Writes stages with their elapsed time, and meanwhile, from its own thread, what is in progress and for how long.

    On a terminal that is one updating line, as wide as the terminal, with a bar if steps are counted. Elsewhere it
    is at most one line every ten seconds. Threads may report concurrently.
    """

    def __init__(self, stream: TextIO, moves: float = _MOVES, logs: float = _LOGS) -> None:
        """``moves``, ``logs``: seconds between two signs of life on a terminal and in a log."""
        self._moves = moves
        self._logs = logs
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._lock = threading.Lock()
        self._start = time.perf_counter()
        self._running: dict[str, float] = {}
        self._step: tuple[str, int, int] | None = None
        self._life: threading.Thread | None = None
        self._idle = threading.Event()
        """Set while nothing runs: it ends the thread that shows progress."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announce the stage, show that it is running, and say how long it took; of a QUIET one only if it lasts."""
        start, quiet = time.perf_counter(), name in QUIET
        if not quiet:
            self._write(f"{name} ...")
        self._begin(name, start)
        outcome = "failed"
        try:
            yield
            outcome = "done"
        finally:
            self._end(name)
            seconds = time.perf_counter() - start
            if not quiet or seconds >= self._moves:
                self._write(f"{name} {outcome} in {seconds:.2f} s")

    def step(self, name: str, done: int, total: int) -> None:
        """Record the progress of the running stage; on a terminal, show it."""
        if total <= 0:
            return
        with self._lock:
            self._step = (name, min(done, total), total)
            if self._is_terminal:
                self._draw()

    def note(self, text: str) -> None:
        """Print a separate line."""
        self._write(f"note: {text}")

    def _begin(self, name: str, start: float) -> None:
        with self._lock:
            first = not self._running
            self._running[name] = start
            if first:
                self._idle = threading.Event()
                self._life = threading.Thread(target=self._show_life, args=(self._idle,), name="progress", daemon=True)
                self._life.start()

    def _end(self, name: str) -> None:
        with self._lock:
            self._running.pop(name, None)
            self._step = None
            if self._running or self._life is None:
                return
            life, self._life = self._life, None
            self._idle.set()
        life.join(self._moves)  # so that it does not count as a working thread when an interruption arrives

    def _show_life(self, idle: threading.Event) -> None:
        # The stream's reader may be gone; that must not affect the work.
        with suppress(OSError, ValueError):
            while not idle.wait(self._moves if self._is_terminal else self._logs):
                with self._lock:
                    if self._is_terminal:
                        self._draw()
                    elif self._running:
                        self._put(f"still running: {self._under_way()}")

    def _under_way(self) -> str:
        """The step counted last, first because terminals may be narrow; then what runs, and for how long."""
        now = time.perf_counter()
        stages = ", ".join(f"{name} {now - start:.0f} s" for name, start in self._running.items())
        if self._step is None:
            return stages
        name, done, total = self._step
        return f"{done}/{total} {name[:_NAME]}; {stages}"

    def _draw(self) -> None:
        """The updating line: shorter than the terminal is wide, because a wrapped line could not be erased."""
        room = self._columns() - 1
        words, bar = self._under_way(), ""
        width = min(_BAR, room - len(words) - len("  [] "))
        if self._step is not None and width >= _LEAST_BAR:
            filled = width * self._step[1] // self._step[2]
            bar = f"[{'#' * filled}{'.' * (width - filled)}] "
        self._stream.write(f"\r\033[K{printable(f'  {bar}{words}')[:room]}")
        self._stream.flush()

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or 80
        except (OSError, ValueError):
            return 80

    def _write(self, text: str) -> None:
        with self._lock:
            self._put(text)

    def _put(self, text: str) -> None:
        clear = "\r\033[K" if self._is_terminal else ""
        self._stream.write(f"{clear}[{time.perf_counter() - self._start:7.2f} s] {printable(text)}\n")
        self._stream.flush()
