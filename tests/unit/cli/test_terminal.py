"""Long work shows life: on a terminal of any width, and in a log without filling it."""

from __future__ import annotations

import io
import os
import re
import threading
import time
from collections.abc import Callable

import pytest

from cmx4trt.base.progress import CHECK_ENGINE
from cmx4trt.cli import terminal
from cmx4trt.cli.terminal import TerminalProgress

LIMIT = 30.0
"""Seconds after which a test of this file hangs."""


class Screen(io.StringIO):
    """What a terminal is sent."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2

    def lines(self) -> list[str]:
        """Everything that was drawn on the line that moves."""
        return [part.removeprefix("\033[K") for part in self.getvalue().split("\r") if "\n" not in part and part]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def progress_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "progress"]


FAST = {"moves": 0.01, "logs": 0.01}


def test_a_stage_that_says_nothing_shows_life_in_a_log() -> None:
    log = io.StringIO()
    progress = TerminalProgress(log, **FAST)
    with progress.stage("build"), progress.stage("verify"):
        until(lambda: log.getvalue().count("still running") > 2)
        progress.step("Timing Runner", 3, 12)
        until(lambda: "Timing Runner" in log.getvalue())
    assert re.search(r"^\[ +\d+\.\d\d s\] still running: build \d+ s, verify \d+ s$", log.getvalue(), re.M)
    assert re.search(r"still running: 3/12 Timing Runner; build \d+ s, verify \d+ s$", log.getvalue(), re.M)
    assert "\033" not in log.getvalue()
    assert progress_threads() == []


def test_a_stage_that_is_quiet_is_told_of_only_if_it_lasts() -> None:
    log = io.StringIO()
    with TerminalProgress(log, **FAST).stage(CHECK_ENGINE):
        until(lambda: "still running: check engine" in log.getvalue())
    assert "check engine ..." not in log.getvalue()
    assert log.getvalue().count("check engine done in") == 1
    short = io.StringIO()
    with TerminalProgress(short, moves=LIMIT, logs=LIMIT).stage(CHECK_ENGINE):
        pass
    assert short.getvalue() == ""


def test_a_log_is_not_filled() -> None:
    """Steps as many as there may be: lines that say no more than that work goes on are ten seconds apart."""
    assert terminal._LOGS == 10
    log = io.StringIO()
    progress = TerminalProgress(log)
    with progress.stage("build"):
        for done in range(10_000):
            progress.step("Timing Runner", done, 10_000)
    assert [line.split("] ")[1].split(" in ")[0] for line in log.getvalue().splitlines()] == ["build ...", "build done"]


def test_a_stage_that_says_nothing_shows_life_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "get_terminal_size", lambda descriptor: os.terminal_size((80, 24)))
    screen = Screen()
    with TerminalProgress(screen, **FAST).stage("measure"):
        until(lambda: len(screen.lines()) > 2)
    assert screen.lines()[1].startswith("  measure 0 s")
    assert progress_threads() == []


@pytest.mark.parametrize("columns", [1, 10, 20, 30, 40, 50, 64, 65, 80, 200])
def test_the_line_that_moves_never_wraps(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """A line that wrapped could not be taken back: the terminal would fill with what should have moved."""
    monkeypatch.setattr(os, "get_terminal_size", lambda descriptor: os.terminal_size((columns, 24)))
    screen = Screen()
    progress = TerminalProgress(screen)
    with progress.stage("bench Offline performance"):
        for done in range(3):
            progress.step("a phase with a name that is rather longer than forty characters", done, 2)
    drawn = screen.lines()
    assert len(drawn) >= 3
    assert max(map(len, drawn)) < columns
    if columns >= 10:
        assert any("1/2" in line for line in drawn), "the figures come first"
    assert any("#" in line for line in drawn) == (columns >= 100)


@pytest.mark.parametrize("columns", [45, 60, 80])
def test_the_bar_is_as_long_as_there_is_room(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setattr(os, "get_terminal_size", lambda descriptor: os.terminal_size((columns, 24)))
    screen = Screen()
    progress = TerminalProgress(screen)
    with progress.stage("build"):
        progress.step("Timing Runner", 1, 2)
    (bar,) = re.findall(r"\[(#+\.+)\] 1/2 Timing Runner; build 0 s$", screen.lines()[0])
    assert len(bar) == {45: 11, 60: 24, 80: 24}[columns]


def test_an_interruption_finds_no_thread_at_work() -> None:
    """The command line leaves without Python's end where a library's threads are still there; this one is none."""
    progress = TerminalProgress(io.StringIO(), **FAST)
    with pytest.raises(KeyboardInterrupt), progress.stage("build"):
        raise KeyboardInterrupt
    assert progress_threads() == []


def test_a_reader_that_went_away_does_not_matter_to_the_work() -> None:
    log = io.StringIO()
    progress = TerminalProgress(log, **FAST)
    with pytest.raises(ValueError, match="closed file"), progress.stage("build"):  # noqa: PT012
        log.close()
        until(lambda: progress_threads() == [])
