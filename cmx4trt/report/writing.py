"""Writes pages atomically, and never over a file that is not one of our reports."""

from __future__ import annotations

import os

from cmx4trt.base.files import check_file, open_file, write_atomic
from cmx4trt.errors import OutputError

MARKER = 'content="cmx4trt report"'
"""In the head of every page: marks files that may be overwritten, and are removed when their engine is replaced."""
_SETTING = "--html"
_HEAD = 4096
"""The marker is within this many bytes from the start of a page."""


def is_report(path: str) -> bool:
    """Whether the file at ``path`` is one of our reports. Raises OSError."""
    with open_file(path) as stream:
        return MARKER.encode() in stream.read(_HEAD)


def check_page_path(path: str) -> None:
    """Reject early a path that a page cannot be written to. Raises OutputError."""
    check_file(path, _SETTING)
    if not os.path.exists(path):
        return
    try:
        ours = is_report(path)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: it cannot be read ({error.strerror}); give another {_SETTING}"
        ) from error
    if not ours:
        raise OutputError(f"cannot write {path}: the file there is not a cmx4trt report; give another {_SETTING}")


def write_page(path: str, text: str) -> None:
    """Write a page to an absolute path. Raises OutputError."""
    check_page_path(path)
    write_atomic(path, text.encode("utf-8", "replace"), _SETTING)
