from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cmx4trt.base.locks import holder_of, lock_folder, lock_work
from cmx4trt.base.progress import Silent
from cmx4trt.errors import OutputError


class Notes(Silent):
    """Keeps what the user is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.first = threading.Event()

    def note(self, text: str) -> None:
        self.texts.append(text)
        self.first.set()


@contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process holds the folder's lock until it is killed."""
    code = (
        "import fcntl, os, sys\n"
        f"fcntl.flock(os.open({str(folder)!r}, os.O_RDONLY), fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, "name-of-the-holder"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def test_lock_is_exclusive_and_leaves_no_file(tmp_path: Path) -> None:
    probe = (
        "import fcntl, os, sys\n"
        f"d = os.open({str(tmp_path)!r}, os.O_RDONLY)\n"
        "try: fcntl.flock(d, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except BlockingIOError: sys.exit(3)"
    )
    notes = Notes()
    with lock_folder(str(tmp_path), notes, 0, "--output_dir"):
        assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 3
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
    assert list(tmp_path.iterdir()) == []
    assert notes.texts == []


def test_waiting_says_for_whom_and_goes_on_when_the_lock_is_free(tmp_path: Path) -> None:
    notes = Notes()
    with held(tmp_path) as process:
        threading.Thread(target=lambda: notes.first.wait() and process.kill()).start()
        with lock_folder(str(tmp_path), notes, 600, "--output_dir"):
            pass
    assert notes.texts[0].startswith(f"waiting for process {process.pid} (")
    assert f"which holds folder {tmp_path}: 0 s so far, 600 s at most" in notes.texts[0]


@pytest.mark.parametrize("wait", [0, 0.2])
def test_waiting_ends(tmp_path: Path, wait: float) -> None:
    with held(tmp_path) as process, pytest.raises(OutputError) as caught:  # noqa: SIM117
        with lock_folder(str(tmp_path), Silent(), wait, "--output_dir"):
            pytest.fail("two hold one lock")
    sentence = str(caught.value)
    assert sentence.startswith(f"folder {tmp_path} is locked by process {process.pid} (")
    assert ", started " in sentence
    assert f"expected it free within {wait:g} s" in sentence
    assert "--wait=SECONDS or give another --output_dir" in sentence


def test_a_holder_that_cannot_be_seen(tmp_path: Path) -> None:
    """Processes of other containers and machines are not in the kernel's table, or without their number."""
    (tmp_path / "table").write_text("1: FLOCK  ADVISORY  WRITE 1 00:00:1 0 EOF\n")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with held(tmp_path):
            assert holder_of(descriptor).startswith("process ")
            for table in ("/nowhere", str(tmp_path / "table")):
                assert holder_of(descriptor, table) == "a process that cannot be seen from here"
    finally:
        os.close(descriptor)


def test_a_file_system_without_locks_serves_one_process_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with lock_folder(str(tmp_path), Silent(), 0, "--output_dir"):
        pass


def test_the_lock_on_work_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "x.plan.lock"
    with lock_work(str(path), "the build of x.plan", Silent(), 0, "--output_dir"):
        with pytest.raises(OutputError) as caught, lock_work(str(path), "the build of x", Silent(), 0, "--output_dir"):
            pytest.fail("two do the same work")
        assert str(caught.value).startswith(f"the build of x is locked by process {os.getpid()} (")
        with lock_work(str(tmp_path / "y.plan.lock"), "the build of y.plan", Silent(), 0, "--output_dir"):
            pass
    assert list(tmp_path.iterdir()) == []


def test_many_that_want_one_lock_have_it_one_after_the_other(tmp_path: Path) -> None:
    """Each removes the file it has locked, which those who wait have open."""
    path, inside, most = str(tmp_path / "x.lock"), [0], [0]

    def work() -> None:
        for _ in range(20):
            with lock_work(path, "x", Silent(), 60, "--output_dir"):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert list(tmp_path.iterdir()) == []


def test_the_lock_file_of_a_killed_process_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "x.lock").touch()
    with lock_work(str(tmp_path / "x.lock"), "x", Silent(), 0, "--output_dir"):
        pass
    assert list(tmp_path.iterdir()) == []
