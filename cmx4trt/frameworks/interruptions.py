"""Ctrl-C and SIGTERM while a framework runs the script. Standard library only.

The framework waits for its shells in a C function: a handler written in Python runs only after the shell has ended. So that
SIGTERM to the framework alone ends a build, a thread hears of the signal at once (through the wakeup descriptor) and passes
it on to the processes that have no children: the worker, or a dependency's download. Its shells then end by themselves.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any, NoReturn

from cmx4trt.errors import EXIT_INTERRUPTED

EXIT_TERMINATED = 128 + signal.SIGTERM


class Interruptions:
    """Handlers of one run, set in ``enter`` and taken back in ``leave``; without effect outside of the main thread."""

    def __init__(self, framework: str) -> None:
        self._framework = framework
        self._before: dict[signal.Signals, Any] = {}
        self._wakeup: tuple[int, int] | None = None

    def enter(self) -> None:
        """Listen, where nobody else does."""
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before[signal.SIGINT] = signal.signal(signal.SIGINT, self._end)
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            reader, writer = os.pipe()
            os.set_blocking(writer, False)
            self._wakeup = (writer, signal.set_wakeup_fd(writer, warn_on_full_buffer=False))
            self._before[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._end)
            threading.Thread(target=_pass_on, args=(reader,), daemon=True).start()

    def leave_interrupt_to_worker(self) -> None:
        """From here on Ctrl-C is the worker's: the shells around it inherit this and live on to report."""
        if signal.SIGINT in self._before:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def leave(self) -> None:
        """As it was before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
        if self._wakeup is not None:
            writer, before = self._wakeup
            self._wakeup = None
            signal.set_wakeup_fd(before)
            os.close(writer)  # ends the thread, which closes its own end

    def _end(self, number: int, frame: FrameType | None) -> NoReturn:
        """The framework would answer Ctrl-C with a traceback."""
        terminated = number == signal.SIGTERM
        sentence = "ended by SIGTERM; nothing was published" if terminated else "interrupted"
        sys.stderr.write(f"\n{self._framework} error: {sentence}!\n")
        raise SystemExit(EXIT_TERMINATED if terminated else EXIT_INTERRUPTED)


def _pass_on(reader: int) -> None:
    """Until the other end is closed: SIGTERM for every descendant that waits for no child of its own."""
    with os.fdopen(reader, "rb", buffering=0) as signals:
        while numbers := signals.read(64):
            if signal.SIGTERM in numbers:
                for process in _leaves(os.getpid()):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGTERM)


def _leaves(process: int) -> list[int]:
    """The descendants of a process that have no children."""
    found = []
    for child in _children(process):
        found += _leaves(child) or [child]
    return found


def _children(process: int) -> list[int]:
    try:
        tasks = os.listdir(f"/proc/{process}/task")
    except OSError:
        return []
    children = []
    for task in tasks:
        with contextlib.suppress(OSError), open(f"/proc/{process}/task/{task}/children", encoding="ascii") as file:
            children += [int(word) for word in file.read().split()]
    return children
