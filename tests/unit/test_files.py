from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cmx4trt.errors import OutputError
from cmx4trt.files import (
    PARTIAL_SUFFIX,
    Stamp,
    check_writable,
    digest_if_changed,
    lock_folder,
    make_folder,
    remove_abandoned,
    sha256_of_file,
    write_atomic,
)

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_digest_is_taken_from_the_record_only_while_the_file_is_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    assert sha256_of_file(str(path)) == ABC
    record = {"sha256": "recorded", "stamp": Stamp.of(str(path)).to_dict()}
    assert digest_if_changed(str(path), record) == "recorded"
    status = path.stat()
    path.write_bytes(b"abd")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # same size, forged modification time
    assert digest_if_changed(str(path), record) == sha256_of_file(str(path))
    assert digest_if_changed(str(path), {}) == sha256_of_file(str(path))


def test_write_atomic_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    write_atomic(str(path), memoryview(b"new"))
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["f"]


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


def test_remove_abandoned_spares_files_being_written(tmp_path: Path) -> None:
    (tmp_path / f"dead.1{PARTIAL_SUFFIX}").write_bytes(b"half")
    (tmp_path / "other.txt").write_bytes(b"keep")
    writer = (
        "import fcntl, sys, os\n"
        f"d = os.open({str(tmp_path / ('alive.2' + PARTIAL_SUFFIX))!r}, os.O_WRONLY | os.O_CREAT)\n"
        "fcntl.flock(d, fcntl.LOCK_EX); print('locked', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", writer], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"locked\n"
    remove_abandoned(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == [f"alive.2{PARTIAL_SUFFIX}", "other.txt"]
    process.communicate()
    remove_abandoned(str(tmp_path))
    assert os.listdir(tmp_path) == ["other.txt"]


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


def test_lock_is_exclusive_and_leaves_no_file(tmp_path: Path) -> None:
    probe = (
        "import fcntl, os, sys\n"
        f"d = os.open({str(tmp_path)!r}, os.O_RDONLY)\n"
        "try: fcntl.flock(d, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except BlockingIOError: sys.exit(3)"
    )
    with lock_folder(str(tmp_path)):
        assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 3
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
    assert os.listdir(tmp_path) == []
