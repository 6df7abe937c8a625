"""Runs NVIDIA's make target, and decides whether it built an engine: its exit status alone is not sufficient."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from cmx4trt.base.background import Background
from cmx4trt.base.files import check_place
from cmx4trt.base.progress import Progress
from cmx4trt.errors import BuildError, CmxError, DeviceError, OutputError, UnsupportedError

LINES_KEPT = 4000
"""Number of last log lines that are searched for the reason of a failure."""
_POLL_SECONDS = 0.5
GRACE_SECONDS = 5.0
"""Enough for processes that have something to write before they exit."""
_GENERIC = "Building engines failed!"
_UNKNOWN_SYSTEM = "did not match any known systems"
_NO_CONFIG = "No registered config for"
FAILURE_LINES = (_UNKNOWN_SYSTEM, _NO_CONFIG, _GENERIC)
"""Any of these in the log means that no engine, or not the requested one, was built, whatever the exit status."""

_REASONS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"^(?:\w+\.)*\w*(?:Error|Exception)\b(?!: {re.escape(_GENERIC)}).*",
        r"^[\w./-]+\.py: error: .*",
        r"^.*\[E\].*",
        r"^\[.* ERROR\] .*",
        r"^.*\*\*\* (?!\[).*",
        r"^make.*\*\*\*.*",
    )
)
"""Patterns of failure reasons, most informative first: Python exceptions, argparse, TensorRT, NVIDIA's logger, make."""
_PREFIX = re.compile(r"^\[[^\]]*\] ")


@dataclass(frozen=True, slots=True)
class Stamp:
    """The file-system state of a file, which shows whether make has written it."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


@dataclass(slots=True)
class Log:
    """The last lines of a log, and the failure lines seen anywhere in it."""

    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES_KEPT))
    failures: set[str] = field(default_factory=set)

    def add(self, line: str) -> None:
        """Add one line."""
        self.lines.append(line)
        self.failures.update(mark for mark in FAILURE_LINES if mark in line)

    def reason(self) -> str:
        """The most informative line about a failure."""
        for pattern in _REASONS:
            for line in reversed(self.lines):
                if pattern.match(line):
                    return _PREFIX.sub("", line).strip()
        return next((line.strip() for line in reversed(self.lines) if line.strip()), "it printed nothing")

    def line_with(self, mark: str) -> str:
        """The first line that contains ``mark``, without the logger's prefix."""
        return next((_PREFIX.sub("", line).strip() for line in self.lines if mark in line), mark)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run of make ended."""

    status: int
    log: Log


def run_make(
    folder: str,
    flags: Sequence[str],
    environment: Mapping[str, str],
    log_path: str,
    progress: Progress,
    grace_seconds: float = GRACE_SECONDS,
) -> Outcome:
    """``make generate_engines`` in ``folder``; every line goes to ``log_path`` and ``progress``.

    ``grace_seconds``: how long processes that outlive make may keep its output open, and terminated ones may take to exit.
    Ends everything it has started when interrupted. Raises BuildError if make cannot be started, OutputError if the log
    cannot be written.
    """
    check_place(log_path)  # a pipe would be waited for
    command = ["make", "generate_engines", f"RUN_ARGS={' '.join(flags)}"]
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # so that everything it starts can be killed together
        )
    except OSError as error:
        raise BuildError(f"cannot start make in {folder}: {error.strerror}; install make") from error
    log = Log()
    reading = Background(lambda: _copy_lines(process, log, log_path, progress))
    try:
        while process.poll() is None and not reading.wait(_POLL_SECONDS):
            pass
        # A build that NVIDIA's code gave up waiting for is still running, and keeps the output open.
        if reading.wait(grace_seconds):
            reading.result()
        status = process.wait()
    finally:
        _end_group(process, grace_seconds)
    reading.result()
    return Outcome(status, log)


def _copy_lines(process: subprocess.Popen[str], log: Log, path: str, progress: Progress) -> None:
    assert process.stdout is not None
    try:
        with open(path, "w", encoding="utf-8", buffering=1) as stream, process.stdout:
            for line in process.stdout:
                stream.write(line)
                log.add(line.rstrip("\n"))
                progress.note(line.rstrip("\n"))
    except OSError as error:
        raise OutputError(f"cannot write the log {path}: {error.strerror}; give another --output_dir") from error


def _end_group(process: subprocess.Popen[str], grace_seconds: float) -> None:
    """End the process and everything it started: first SIGTERM, then SIGKILL."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(grace_seconds)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def check_outcome(outcome: Outcome, engine: str, before: Stamp | None, what: str, log_path: str) -> None:
    """Accept only exit status 0, no failure line, and an engine that exists, is new and not empty. Raises CmxError."""
    log = outcome.log
    if _UNKNOWN_SYSTEM in log.failures:
        raise unknown_system(what)
    if _NO_CONFIG in log.failures:
        raise UnsupportedError(
            f"{what} has no configuration for this system and scenario ({log.line_with(_NO_CONFIG)}); "
            "use another --scenario or the builder _tensorrt"
        )
    if outcome.status != 0 or _GENERIC in log.failures:
        raise BuildError(f"{what} failed: {log.reason()} (exit status {outcome.status}); its log is {log_path}")
    _check_engine(engine, before, what, log_path)


def _check_engine(engine: str, before: Stamp | None, what: str, log_path: str) -> None:
    now = stamp_of(engine)
    if now is None:
        raise BuildError(f"{what} ended without an error but did not create the engine {engine}; its log is {log_path}")
    if now.size == 0:
        raise BuildError(f"{what} left an empty engine {engine}; its log is {log_path}")
    if now == before:
        raise BuildError(f"{what} ended without an error but did not change the engine {engine}; its log is {log_path}")


def stamp_of(path: str) -> Stamp | None:
    """The file-system state of ``path``; None if it does not exist."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def unknown_system(what: str) -> CmxError:
    """The error for a machine that a release does not know."""
    return DeviceError(
        f"{what} does not know this system (its list names GPU, number of GPUs, CPU and memory); use the builder _tensorrt, "
        'which needs no list, or describe the system to it (cmr "add custom system nvidia"; from r5.1 on set SYSTEM_NAME)'
    )
