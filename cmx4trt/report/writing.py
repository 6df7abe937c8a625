"""Writes pages: whole or not at all, and never over a file that is not a report of ours."""

from __future__ import annotations

import os

from cmx4trt.errors import OutputError
from cmx4trt.files import write_atomic

MARKER = 'content="cmx4trt report"'
"""In the head of every page: what may be overwritten, and what is removed when its engine is replaced."""
_HEAD = 4096
"""The marker stands in so many first bytes of a page."""


def is_report(path: str) -> bool:
    """Whether the file at ``path`` is a page of ours. Raises OSError."""
    with open(path, "rb") as stream:
        return MARKER.encode() in stream.read(_HEAD)


def check_page_path(path: str) -> None:
    """Refuse early a path that a page cannot be written to. Raises OutputError."""
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise OutputError(f"cannot write report {path}: {folder} is not a folder; make it or give another --html")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write report {path}: {folder} is read-only; give another --html")
    if not os.path.lexists(path):
        return
    if not os.path.isfile(path):
        raise OutputError(f"cannot write report {path}: something that is no file is there; give another --html")
    try:
        ours = is_report(path)
    except OSError as error:
        raise OutputError(
            f"cannot write report {path}: it cannot be read ({error.strerror}); give another --html"
        ) from error
    if not ours:
        raise OutputError(
            f"cannot write report {path}: a file is there that is no report of cmx4trt; give another --html"
        )


def write_page(path: str, text: str) -> None:
    """Write a page to an absolute path. Raises OutputError."""
    check_page_path(path)
    try:
        write_atomic(path, text.encode("utf-8", "replace"))
    except OutputError as error:
        reason = getattr(error.__cause__, "strerror", None) or str(error)
        raise OutputError(f"cannot write report {path}: {reason}; free space or give another --html") from error
