"""The folder of a run: one run at a time writes to it, and nobody can take the files of two runs for those of one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

from cmx4trt.base.files import PARTIAL_SUFFIX, check_file, make_folder
from cmx4trt.base.locks import holder_of, try_lock
from cmx4trt.bench.results import LOG_SETTING, RESULT_NAME, TEXT_NAME
from cmx4trt.errors import OutputError

LOG_NAMES = tuple(f"mlperf_log_{name}" for name in ("summary.txt", "detail.txt", "accuracy.json", "trace.json"))
"""What LoadGen writes."""


@contextmanager
def hold_log_folder(folder: str) -> Iterator[None]:
    """Make ``folder`` and keep other runs out of it; nothing in it is touched, and no lock file left behind.

    Raises OutputError where it cannot hold a run's files, or another run writes to it.
    """
    try:
        folder.encode("utf-8")
    except UnicodeEncodeError as error:
        raise OutputError(
            f"the log folder {folder!r} is not UTF-8, as LoadGen wants it; give another {LOG_SETTING}"
        ) from error
    make_folder(folder, LOG_SETTING)
    for name in (*LOG_NAMES, RESULT_NAME, TEXT_NAME):
        check_file(os.path.join(folder, name), LOG_SETTING)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not try_lock(descriptor):
            raise OutputError(
                f"another run writes to {folder}: {holder_of(descriptor)}; wait for it or give another {LOG_SETTING}"
            )
        yield
    finally:
        os.close(descriptor)


def clear_logs(folder: str) -> None:
    """Remove the logs of an earlier run, and find out whether new ones can be written. Raises OutputError.

    LoadGen itself writes to standard error and goes on where it cannot open its files.
    """
    for name in LOG_NAMES:
        path = os.path.join(folder, name)
        try:
            for old in (path, path + PARTIAL_SUFFIX):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(old)
            with open(path, "xb"):
                pass
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}; give another {LOG_SETTING}") from error


def mark_partial(folder: str) -> None:
    """Rename the logs of a run that failed: what was refused at its end makes LoadGen's own summary worthless, even 'VALID'.

    Our files go; of two that belong together, one may be of the failed run already.
    """
    for name in (RESULT_NAME, TEXT_NAME):
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(folder, name))
    for name in LOG_NAMES:
        with contextlib.suppress(OSError):
            os.replace(os.path.join(folder, name), os.path.join(folder, name + PARTIAL_SUFFIX))
