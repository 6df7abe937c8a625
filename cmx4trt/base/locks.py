"""A lock on a folder or a piece of work: waits for whoever holds it, says who that is, and gives up in the end."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from cmx4trt.base.progress import Progress
from cmx4trt.errors import OutputError

_POLL_SECONDS = 0.1
NOTE_SECONDS = 10.0
"""How often a waiting process says that it waits."""
_LOCKS = "/proc/locks"
_SHOWN = 80
"""Characters of another process's command line that a sentence shows."""


@contextmanager
def lock_folder(path: str, progress: Progress, wait: float, setting: str) -> Iterator[None]:
    """Hold the folder's advisory lock; no lock file is left behind. The lock goes with the process, whatever ends it.

    While another process holds it, ``progress`` is told which, at once and then every NOTE_SECONDS. Raises OutputError after
    ``wait`` seconds; ``setting`` is what a user would change to have another folder.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _wait_for_lock(descriptor, f"folder {path}", progress, wait, setting)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def lock_work(path: str, title: str, progress: Progress, wait: float, setting: str) -> Iterator[None]:
    """Hold the lock on work that ends in a file: ``title`` says which, ``path`` names the lock's own file.

    That file goes with the work; where the process is killed it stays, unlocked, for the next one. Otherwise as ``lock_folder``.
    Raises OutputError.
    """
    deadline = time.monotonic() + wait
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}; free space or give another {setting}") from error
        try:
            _wait_for_lock(descriptor, title, progress, max(0.0, deadline - time.monotonic()), setting, wait)
            if not _is_file(descriptor, path):
                continue  # whoever held it has removed the file: others may have the lock of a new one
            try:
                yield
            finally:
                with suppress(OSError):
                    os.unlink(path)
            return
        finally:
            os.close(descriptor)


def _is_file(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


def _wait_for_lock(
    descriptor: int, title: str, progress: Progress, wait: float, setting: str, whole: float | None = None
) -> None:
    """``title``: what is locked; ``whole``: the seconds that the user gave, where ``wait`` is what is left of them."""
    start = time.monotonic()
    told = -NOTE_SECONDS
    while not try_lock(descriptor):
        waited = time.monotonic() - start
        if waited >= wait:
            raise OutputError(
                f"{title} is locked by {holder_of(descriptor)}, expected it free within {whole or wait:g} s; end that process, "
                f"wait longer with --wait=SECONDS or give another {setting}"
            )
        if waited - told >= NOTE_SECONDS:
            progress.note(
                f"waiting for {holder_of(descriptor)}, which holds {title}: {waited:.0f} s so far, {wait:g} s at most"
            )
            told = waited
        time.sleep(min(_POLL_SECONDS, wait - waited))


def try_lock(descriptor: int) -> bool:
    """Lock an open file or folder; False where another process has it. True on file systems without locks (some network ones),
    which still serve one process at a time."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def holder_of(descriptor: int, table: str = _LOCKS) -> str:
    """In words, which process holds the lock of an open file or folder, and for how long it has been running.

    ``table``: the file with the kernel's table of locks.
    """
    pid = _pid_of_holder(descriptor, table)
    if pid is None:  # in another container, or on another machine
        return "a process that cannot be seen from here"
    command, seconds = _command_of(pid), _seconds_of(pid)
    return (
        f"process {pid}" + (f" ({command})" if command else "") + (f", started {seconds:.0f} s ago" if seconds else "")
    )


def _pid_of_holder(descriptor: int, table: str) -> int | None:
    """From the kernel's table of locks (man 5 proc_locks): number, FLOCK, ADVISORY, WRITE, pid, major:minor:inode, range."""
    status = os.fstat(descriptor)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        with open(table, encoding="ascii") as stream:
            rows = [line.split() for line in stream]
    except (OSError, UnicodeDecodeError):
        return None
    # A row with "->" behind its number is of a process that waits.
    pids = [row[4] for row in rows if len(row) > 5 and row[1] == "FLOCK" and row[5] == device]
    return next((int(pid) for pid in pids if pid.isdigit() and int(pid) > 0), None)


def _command_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as stream:
            words = stream.read().replace("\0", " ").split()
    except OSError:
        return ""
    text = "".join(c if c.isprintable() else "?" for c in " ".join(words))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _seconds_of(pid: int) -> float | None:
    """How long ago a process started, from field 22 of its status (man 5 proc_pid_stat)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            ticks = int(stream.read().rpartition(")")[2].split()[19])
        with open("/proc/uptime", encoding="ascii") as stream:
            uptime = float(stream.read().split()[0])
        return uptime - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
