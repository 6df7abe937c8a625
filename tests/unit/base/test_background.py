"""Calls in threads of their own."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from cmx4trt.base.background import Background, in_threads


def test_a_call_hands_back_its_result_or_its_exception() -> None:
    assert Background(lambda: 7).result() == 7
    failing = Background(lambda: 1 // 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            failing.result()


def test_who_waits_is_told_whether_it_has_ended() -> None:
    go = threading.Event()
    call = Background(lambda: go.wait(60))
    assert not call.wait(0.0)
    go.set()
    assert call.wait(60)
    assert call.result()


def test_python_ends_after_a_call_that_outlasts_it() -> None:
    program = (
        "import time; from cmx4trt.base.background import Background; "
        "Background(lambda: (time.sleep(0.3), print('done'))).outlast()"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "done\n"


def test_results_come_in_the_order_of_the_calls() -> None:
    def call(number: int) -> Callable[[], int]:
        return lambda: number

    assert in_threads([call(number) for number in range(50)]) == list(range(50))


def test_after_a_failure_no_call_is_begun_that_was_waiting() -> None:
    begun: list[int] = []

    def call(number: int) -> Callable[[], None]:
        def run() -> None:
            begun.append(number)
            raise OSError(f"number {number}")

        return run

    with pytest.raises(OSError, match="number"):
        in_threads([call(number) for number in range(1000)])
    assert len(begun) < 1000
