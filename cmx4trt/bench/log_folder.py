"""The folder of a run: one run at a time writes to it, and files of two runs are never mixed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

from cmx4trt.base.files import PARTIAL_SUFFIX, check_file, make_folder
from cmx4trt.base.locks import holder_of, try_lock
from cmx4trt.bench.results import LOG_SETTING
from cmx4trt.errors import OutputError
from cmx4trt.store.results import RESULT_NAME, TEXT_NAME

LOG_NAMES = tuple(f"mlperf_log_{name}" for name in ("summary.txt", "detail.txt", "accuracy.json", "trace.json"))
"""What LoadGen writes."""


@contextmanager
def hold_log_folder(folder: str) -> Iterator[None]:
    """Create ``folder`` and keep other runs out of it; its files are not touched, and no lock file is left behind.

    Raises OutputError if it cannot store a run's files, or if another run writes to it.
    """
    try:
        folder.encode("utf-8")
    except UnicodeEncodeError as error:
        raise OutputError(
            f"the log folder {folder!r} is not UTF-8, which LoadGen requires; give another {LOG_SETTING}"
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
    """Remove the logs of an earlier run, and check whether new ones can be written. Raises OutputError.

    If LoadGen cannot open its files, it only prints to standard error and continues.
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
    """Rename the logs of a failed run: because queries were rejected at its end, LoadGen's own summary is meaningless, even
    'VALID'.

    Our files are deleted; of two that belong together, one may already be from the failed run.
    """
    for name in (RESULT_NAME, TEXT_NAME):
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(folder, name))
    for name in LOG_NAMES:
        with contextlib.suppress(OSError):
            os.replace(os.path.join(folder, name), os.path.join(folder, name + PARTIAL_SUFFIX))
