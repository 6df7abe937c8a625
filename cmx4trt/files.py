"""Files: digests, atomic writes that leave nothing behind, and a lock on a folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

from cmx4trt.errors import OutputError

PARTIAL_SUFFIX = ".partial"
"""Ends the names of files being written; such a file whose writer is gone is removed by the next publication."""
OUTPUT_SETTING = "--output_dir"
"""What a user changes to have files elsewhere, unless the sentence names another setting."""
_CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the file system says of a file; equal stamps mean an unchanged file (as git and make assume).

    The change time is part of it: it moves with every write, rename and time-stamp forgery.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, path: str) -> Stamp:
        """The stamp of ``path``. Raises OSError."""
        status = os.stat(path)
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    def to_dict(self) -> dict[str, int]:
        """The stamp as JSON."""
        return asdict(self)


def sha256_of_file(path: str) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal. Raises OSError."""
    with open(path, "rb", buffering=0) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(stream)


def _digest(stream: Any) -> str:
    digest = hashlib.sha256()
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def digest_if_changed(path: str, known: Mapping[str, Any]) -> str:
    """The SHA-256 of ``path``: the ``known`` one while its stamp still fits, else from the bytes. Raises OSError.

    ``known`` holds 'sha256' and 'stamp' as an earlier run recorded them; anything missing there means reading the file.
    """
    if "sha256" in known and known.get("stamp") == Stamp.of(path).to_dict():
        return str(known["sha256"])
    return sha256_of_file(path)


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
    if os.path.lexists(path) and not os.path.isfile(path):
        raise OutputError(f"cannot write {path}: something that is no file is there; give another {setting}")


def _is_read_only(folder: str) -> bool:
    """Whether nothing can be written: by its permissions, or as a mount (root passes every permission check)."""
    return not os.access(folder, os.W_OK | os.X_OK) or bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


@contextmanager
def lock_folder(path: str) -> Iterator[None]:
    """Hold the folder's advisory lock; no lock file is left behind. The lock goes with the process, whatever ends it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # File systems without locks (some network ones) still work, one build at a time.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def encode_json(text: str) -> bytes:
    """JSON as UTF-8; what stands for bytes of a path that are no text (PEP 383) becomes an escape, and is read back as it was."""
    return text.encode("utf-8", "backslashreplace")


def write_atomic(path: str, data: Any, setting: str = OUTPUT_SETTING) -> None:
    """Write a buffer under a temporary name, flush it to the disk, rename it to ``path``.

    ``setting`` is what a user would change to have it written elsewhere.
    On any failure the temporary file goes and ``path`` is as before. Raises OutputError.
    """
    temporary = f"{path}.{os.getpid()}{PARTIAL_SUFFIX}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            # Tells remove_abandoned that the writer is alive.
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            view = memoryview(data).cast("B")
            written = 0
            while written < len(view):
                written += os.write(descriptor, view[written:])
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(temporary)
        raise OutputError(f"cannot write {path}: {error.strerror}; free space or give another {setting}") from error
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(os.path.dirname(path) or ".")


def _sync_folder(folder: str) -> None:
    """Make a rename durable; not every file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_abandoned(folder: str) -> None:
    """Remove the temporary files in ``folder`` whose writers were killed."""
    for name in os.listdir(folder):
        if not name.endswith(PARTIAL_SUFFIX):
            continue
        with suppress(OSError):
            path = os.path.join(folder, name)
            descriptor = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while the writer lives
                os.unlink(path)
            finally:
                os.close(descriptor)
