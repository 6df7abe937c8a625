from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cmx4trt.base.digests import blake3_of_file, sha256_of_file
from cmx4trt.base.files import (
    PARTIAL_SUFFIX,
    check_writable,
    make_folder,
    open_file,
    open_text,
    remove_abandoned,
    write_atomic,
    write_together,
)
from cmx4trt.errors import OutputError


def test_write_atomic_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    write_atomic(str(path), memoryview(b"new"))
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["f"]


def test_pieces_of_a_large_file_are_written_in_order(tmp_path: Path) -> None:
    content = bytes(range(251)) * 80_000  # of 20 MB, no piece begins like another
    write_atomic(str(tmp_path / "large"), content)
    assert (tmp_path / "large").read_bytes() == content


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def full(descriptor: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OutputError, match=r"cannot write .*No space left on device"):
        write_atomic(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_an_interrupted_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(str(tmp_path / "f"), b"new")
    assert os.listdir(tmp_path) == []


def test_remove_abandoned_takes_old_files_without_a_writer(tmp_path: Path) -> None:
    """A new file stays whatever its lock says: locks may hold on one machine only, and its writer be on another."""
    dead, alive, new = (tmp_path / f"{name}.{'0' * 16}{PARTIAL_SUFFIX}" for name in ("dead", "alive", "new"))
    others = [
        tmp_path / "other.txt",
        tmp_path / f"mlperf_log_detail.txt{PARTIAL_SUFFIX}",
        tmp_path / f"x.1{PARTIAL_SUFFIX}",
    ]
    pipe = tmp_path / f"pipe.{'1' * 16}{PARTIAL_SUFFIX}"
    for path in (dead, alive, new, *others):
        path.write_bytes(b"half")
    os.mkfifo(pipe)
    for path in (dead, alive, *others, pipe):
        os.utime(path, (0, 0))
    writer = (
        "import fcntl, sys, os\n"
        f"d = os.open({str(alive)!r}, os.O_WRONLY)\n"
        "fcntl.flock(d, fcntl.LOCK_EX); print('locked', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", writer], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"locked\n"
    remove_abandoned(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == sorted(path.name for path in (alive, new, *others, pipe))
    process.communicate()
    remove_abandoned(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == sorted(path.name for path in (new, *others, pipe))


def test_writers_with_one_process_id_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in two containers that share a folder whose locks do nothing: both write at once, both as process 7."""
    monkeypatch.setattr(os, "getpid", lambda: 7)
    monkeypatch.setattr("fcntl.flock", lambda *arguments: None)
    path, other = tmp_path / "f", b"of the other"
    real_fsync = os.fsync

    def meanwhile(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", real_fsync)
        write_atomic(str(path), other)
        assert path.read_bytes() == other
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", meanwhile)
    write_atomic(str(path), b"ours")
    assert path.read_bytes() == b"ours"
    assert os.listdir(tmp_path) == ["f"]


def test_a_temporary_name_that_is_taken_is_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "urandom", bytes)
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / f"f.{'00' * 8}{PARTIAL_SUFFIX}").symlink_to(victim)
    with pytest.raises(OutputError, match="File exists"):
        write_atomic(str(tmp_path / "f"), b"new")
    assert victim.read_bytes() == b"precious"


def test_files_that_belong_together_are_renamed_when_all_are_written(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"old")

    def contents() -> Iterator[tuple[str, bytes]]:
        yield str(tmp_path / "a"), b"new"
        raise OutputError("no second file")

    with pytest.raises(OutputError, match="no second file"):
        write_together(contents())
    assert (tmp_path / "a").read_bytes() == b"old"
    write_together([(str(tmp_path / name), b"new") for name in ("a", "b")])
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
    assert {(tmp_path / name).read_bytes() for name in ("a", "b")} == {b"new"}


def irregular(folder: Path) -> Iterator[Path]:
    os.mkfifo(folder / "pipe")
    yield folder / "pipe"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        yield folder / "socket"
    yield Path("/dev/zero")
    (folder / "link").symlink_to(folder / "pipe")
    yield folder / "link"


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("text")
    with open_file(str(tmp_path / "f")) as stream:
        assert stream.read() == b"text"
    with open_text(str(tmp_path / "f")) as text:
        assert text.read() == "text"
    for path in irregular(tmp_path):
        for read in (open_file, open_text, sha256_of_file, blake3_of_file):
            with pytest.raises(OSError, match="is not a regular file") as caught:
                read(str(path))
            assert caught.value.strerror == "not a regular file"
    with pytest.raises(IsADirectoryError):
        open_text(str(tmp_path))


def test_folders_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="is not a folder"):
            make_folder(str(path))
        with pytest.raises(OutputError, match="is not a folder"):
            check_writable(str(path))
    check_writable(str(tmp_path / "new" / "folder"))
    assert not (tmp_path / "new").exists()
    make_folder(str(tmp_path / "new" / "folder"))
    assert (tmp_path / "new" / "folder").is_dir()


def test_read_only_file_system_is_noticed_even_by_root(tmpfs: Callable[..., Path]) -> None:
    with pytest.raises(OutputError, match="read-only"):
        check_writable(str(tmpfs("ro") / "engines"))


def test_locks_of_killed_builds_go_with_the_temporary_files(tmp_path: Path) -> None:
    old, held, young = (tmp_path / f"{name}.plan.lock" for name in ("old", "held", "young"))
    for path in (old, held, young):
        path.touch()
    for path in (old, held):
        os.utime(path, (0, 0))
    with held.open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        remove_abandoned(str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["held.plan.lock", "young.plan.lock"]
