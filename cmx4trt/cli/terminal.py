"""Progress on a terminal (one line that moves) or in a log (plain lines). Whatever takes long shows that it goes on."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from cmx4trt.base.damage import printable

_BAR = 24
"""Characters of the progress bar where there is room."""
_LEAST_BAR = 8
"""A shorter one says nothing: the figures alone stay."""
_NAME = 40
"""Characters of a step's name that are shown."""
_MOVES = 1.0
"""Seconds between two looks of a line that moves."""
_LOGS = 10.0
"""Seconds between two lines in a log that say no more than that work goes on."""


class TerminalProgress:
    """Writes stages with their elapsed time, and meanwhile, by a thread of its own, what is under way and for how long.

    On a terminal that is one line that moves, as wide as the terminal is, with a bar where steps are counted. Elsewhere it
    is a line at most every ten seconds. Threads may report at once.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._lock = threading.Lock()
        self._start = time.perf_counter()
        self._running: dict[str, float] = {}
        self._step: tuple[str, int, int] | None = None
        self._life: threading.Thread | None = None
        self._idle = threading.Event()
        """Set while nothing runs: it ends the thread that shows life."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announce the stage, show that it goes on, and say how long it took."""
        start = time.perf_counter()
        self._write(f"{name} ...")
        self._begin(name, start)
        outcome = "failed"
        try:
            yield
            outcome = "done"
        finally:
            self._end(name)
            self._write(f"{name} {outcome} in {time.perf_counter() - start:.2f} s")

    def step(self, name: str, done: int, total: int) -> None:
        """Keep what is done of the running stage; on a terminal, show it."""
        if total <= 0:
            return
        with self._lock:
            self._step = (name, min(done, total), total)
            if self._is_terminal:
                self._draw()

    def note(self, text: str) -> None:
        """A line of its own."""
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
        life.join(_MOVES)  # so that it is not among the threads that an interruption finds at work

    def _show_life(self, idle: threading.Event) -> None:
        # The stream's reader may be gone; the work is none of this thread's business.
        with suppress(OSError, ValueError):
            while not idle.wait(_MOVES if self._is_terminal else _LOGS):
                with self._lock:
                    if self._is_terminal:
                        self._draw()
                    elif self._running:
                        self._put(f"still running: {self._under_way()}")

    def _under_way(self) -> str:
        """What is counted last, which a narrow terminal shows first; what runs, and for how long."""
        now = time.perf_counter()
        stages = ", ".join(f"{name} {now - start:.0f} s" for name, start in self._running.items())
        if self._step is None:
            return stages
        name, done, total = self._step
        return f"{done}/{total} {name[:_NAME]}; {stages}"

    def _draw(self) -> None:
        """The line that moves: shorter than the terminal is wide, for one that wraps could not be taken back."""
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
