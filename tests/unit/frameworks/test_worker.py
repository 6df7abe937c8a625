"""What a worker leaves, and what is said of one that leaves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmx4trt.frameworks.worker import read_result


@pytest.mark.parametrize(
    ("status", "code", "text"),
    [
        (0, 1, "ended with exit status 0 and without a result"),
        (1, 1, "ended with exit status 1 and without a result"),
        (127, 127, "ended with exit status 127"),
        (130, 130, "interrupted"),
        (137, 137, "ended by signal 9 (SIGKILL), as the system does when memory runs out; nothing was published"),
        (139, 139, "ended by signal 11 (SIGSEGV); nothing was published"),
        (255, 255, "ended by signal 127 (unknown)"),
    ],
)
@pytest.mark.parametrize("left", [None, '{"exports"', "[]"], ids=["nothing", "half a result", "no object"])
def test_a_worker_without_a_result(tmp_path: Path, status: int, code: int, text: str, left: str | None) -> None:
    path = tmp_path / "result.json"
    if left is not None:
        path.write_text(left)
    answer = read_result(str(path), status)
    assert answer["exit_code"] == code
    assert text in answer["error"]


def test_its_result_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text('{"error": "model x is empty", "exit_code": 3}')
    assert read_result(str(path), 3) == {"error": "model x is empty", "exit_code": 3}
