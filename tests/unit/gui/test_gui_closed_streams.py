"""Last words that nobody reads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import sys
from cmx4trt.gui.closed_streams import drop_closed_streams
sys.stdin.readline()
drop_closed_streams()
print("out", flush=True)
print("error", file=sys.stderr, flush=True)
"""


def started(stdout: int, stderr: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", CODE], stdin=subprocess.PIPE, stdout=stdout, stderr=stderr)


def test_a_pipe_without_a_reader() -> None:
    process = started(subprocess.PIPE, subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stdin.write(b"\n")
    process.stdin.close()
    assert process.stderr.read() == b"error\n", "what still has a reader is read"
    assert process.wait() == 0
    process.stderr.close()


def test_a_closed_terminal() -> None:
    ours, theirs = os.openpty()
    process = started(theirs, theirs)
    assert process.stdin
    os.close(theirs)
    os.close(ours)
    process.stdin.write(b"\n")
    process.stdin.close()
    assert process.wait() == 0


def test_a_terminal_that_is_there() -> None:
    ours, theirs = os.openpty()
    process = started(theirs, theirs)
    process.communicate(b"\n")
    assert os.read(ours, 100).split() == [b"out", b"error"]
    os.close(ours)
    os.close(theirs)


def test_a_file(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        started(log.fileno(), log.fileno()).communicate(b"\n")
    assert (tmp_path / "log").read_bytes().split() == [b"out", b"error"]
