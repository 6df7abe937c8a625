"""Files: regular ones only are read, atomic writes that leave nothing behind."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from io import FileIO
from typing import Any, TextIO

from cmx4trt.errors import OutputError

PARTIAL_SUFFIX = ".partial"
"""Ends the names of files being written; such a file whose writer is gone is removed by a later publication."""
ABANDONED_SECONDS = 600.0
"""A temporary file this long without a write has no writer. A free lock alone does not show that: on shared folders locks may
hold on one machine only, or not at all."""
OUTPUT_SETTING = "--output_dir"
"""What a user changes to have files elsewhere, unless the sentence names another setting."""
LOCK_SUFFIX = ".lock"
"""Ends the names of files that stand for work under way."""
_PIECE = 1 << 20
"""Bytes that are written at once. For larger pieces Linux looks for larger areas of free memory, in which it has lost 0.15 s."""
_TEMPORARY_NAME = re.compile(rf"(\.[0-9a-f]{{16}}{re.escape(PARTIAL_SUFFIX)}|\.plan{re.escape(LOCK_SUFFIX)})$")


class NotRegularError(OSError):
    """A path that leads to a pipe, a device or a socket: reading it could wait for ever, or never end."""

    def __init__(self, path: str) -> None:
        super().__init__(0, "not a regular file", path)

    def __str__(self) -> str:
        """The sentence without a number, which means nothing here."""
        return f"{self.filename} is not a regular file"


def open_file(path: str) -> FileIO:
    """A regular file to read, unbuffered. Raises NotRegularError for anything else that could be opened, OSError."""
    return open(path, "rb", buffering=0, opener=_open_regular)


def open_text(path: str, encoding: str = "utf-8", errors: str | None = None, newline: str | None = None) -> TextIO:
    """A regular file to read as text. Raises NotRegularError for anything else that could be opened, OSError."""
    return open(path, encoding=encoding, errors=errors, newline=newline, opener=_open_regular)


def _open_regular(path: str, flags: int) -> int:
    """``open``'s opener: looks before it opens, which alone can move a tape, and again at what it has opened."""
    if not _is_harmless(os.stat(path)):
        raise NotRegularError(path)
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)  # does not wait for a pipe's other end
    if not _is_harmless(os.fstat(descriptor)):
        os.close(descriptor)
        raise NotRegularError(path)
    return descriptor


def _is_harmless(status: os.stat_result) -> bool:
    """Whether reading ends: a regular file, or a folder, which the system refuses in its own words."""
    return stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)


def make_folder(path: str, setting: str = OUTPUT_SETTING) -> None:
    """Create a folder and its parents; ``setting`` is what a user would change to get another.

    Raises OutputError where something else is in the way or it cannot be written.
    """
    try:
        os.makedirs(path, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise OutputError(
            f"output folder {path} cannot be made: {error.filename} is not a folder; give another {setting}"
        ) from error
    except OSError as error:
        raise OutputError(f"output folder {path} cannot be made: {error.strerror}; give another {setting}") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise OutputError(f"output folder {path} is read-only; give another {setting}")


def check_writable(folder: str) -> None:
    """Refuse early a folder that could not be made or written later; creates nothing. Raises OutputError."""
    existing = folder
    while not os.path.lexists(existing):
        existing = os.path.dirname(existing)
    if not os.path.isdir(existing):
        raise OutputError(
            f"output folder {folder} cannot be made: {existing} is not a folder; give another {OUTPUT_SETTING}"
        )
    if _is_read_only(existing):
        raise OutputError(
            f"output folder {folder} cannot be written: {existing} is read-only; give another {OUTPUT_SETTING}"
        )


def check_file(path: str, setting: str) -> None:
    """Refuse early a file that ``write_atomic`` could not write later; ``setting`` names it. Raises OutputError."""
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise OutputError(f"cannot write {path}: {folder} is not a folder; make it or give another {setting}")
    if _is_read_only(folder):
        raise OutputError(f"cannot write {path}: {folder} is read-only; give another {setting}")
    check_place(path, setting)


def check_place(path: str, setting: str = OUTPUT_SETTING) -> None:
    """Refuse early a ``path`` where something lies that a file must not replace: a folder, a pipe, … Raises OutputError."""
    if os.path.lexists(path) and not os.path.isfile(path):
        raise OutputError(f"cannot write {path}: what is there is not a regular file; give another {setting}")


def _is_read_only(folder: str) -> bool:
    """Whether nothing can be written: by its permissions, or as a mount (root passes every permission check)."""
    return not os.access(folder, os.W_OK | os.X_OK) or bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def name_for_files(text: str) -> str:
    """Letters and digits of a text, with hyphens for all else: part of the name of a file or folder."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")


def encode_json(text: str) -> bytes:
    """JSON as UTF-8; what stands for bytes of a path that are no text (PEP 383) becomes an escape, and is read back as it was."""
    return text.encode("utf-8", "backslashreplace")


def write_atomic(path: str, data: Any, setting: str = OUTPUT_SETTING) -> None:
    """Write a buffer under a temporary name, flush it to the disk, rename it to ``path``.

    ``setting`` is what a user would change to have it written elsewhere.
    On any failure the temporary file goes and ``path`` is as before. Raises OutputError.
    """
    write_together([(path, data)], setting)


def write_together(contents: Iterable[tuple[str, Any]], setting: str = OUTPUT_SETTING) -> None:
    """Write (path, buffer) pairs as ``write_atomic`` does; no file is renamed before all are written and on the disk.

    ``contents`` is asked for the next pair when the one before is written. Raises OutputError.
    """
    written: list[_Temporary] = []
    try:
        for path, data in contents:
            written.append(_Temporary(path, setting))
            written[-1].write(data)
        for temporary in written:
            temporary.publish()
    finally:
        for temporary in written:
            temporary.close()
    for folder in {os.path.dirname(temporary.path) or "." for temporary in written}:
        _sync_folder(folder)


class _Temporary:
    """A file that is being written, beside ``path``, whose name it takes in the end.

    Its name is random and new (O_EXCL): process ids are equal in containers that share a folder.
    """

    def __init__(self, path: str, setting: str) -> None:
        self.path = path
        self._setting = setting
        self._name: str | None = f"{path}.{os.urandom(8).hex()}{PARTIAL_SUFFIX}"
        try:
            self._descriptor = os.open(self._name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise self._failure(error) from error

    def write(self, data: Any) -> None:
        """Write all bytes, to the disk. Raises OutputError."""
        # Tells remove_abandoned that the writer is alive.
        with suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        view, written = memoryview(data).cast("B"), 0
        try:
            while written < len(view):
                count = os.write(self._descriptor, view[written : written + _PIECE])
                _begin_writeback(self._descriptor, written, count)
                written += count
            os.fsync(self._descriptor)
        except OSError as error:
            raise self._failure(error) from error

    def publish(self) -> None:
        """Take the name. Raises OutputError."""
        assert self._name is not None
        try:
            os.rename(self._name, self.path)
        except OSError as error:
            raise self._failure(error) from error
        self._name = None

    def close(self) -> None:
        """Remove the file, unless it is published."""
        if self._name is not None:
            with suppress(OSError):
                os.unlink(self._name)
        os.close(self._descriptor)

    def _failure(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write {self.path}: {error.strerror}; free space or give another {self._setting}")


def _begin_writeback(descriptor: int, offset: int, count: int) -> None:
    """Have the disk begin with what was just written, while the next piece is copied: ``fsync`` then has less to wait for.

    Linux takes this advice as a request to write dirty pages; it drops clean ones, of which there are none here.
    """
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(descriptor, offset, count, os.POSIX_FADV_DONTNEED)


def _sync_folder(folder: str) -> None:
    """Make a rename durable; not every file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_abandoned(folder: str) -> None:
    """Remove what killed processes left in ``folder``, temporary files and locks of builds: old ones that nobody has locked.

    Whoever has opened such a lock, but does not hold it yet, sees that it is gone (``lock_work``).
    """
    for name in os.listdir(folder):
        if not _TEMPORARY_NAME.search(name):
            continue
        with suppress(OSError), open_file(os.path.join(folder, name)) as stream:
            if time.time() - os.fstat(stream.fileno()).st_mtime < ABANDONED_SECONDS:
                continue
            fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while the writer lives
            os.unlink(stream.name)
