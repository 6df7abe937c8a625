"""The output of commands: tables on standard output, and the result file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import Any

from cmx4trt.base.damage import printable, printable_json
from cmx4trt.errors import OutputError

RESULT_SETTING = "--result"


def print_table(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print a title, and below it one line per (name, value)."""
    width = max((len(name) for name, _ in rows), default=0)
    lines = [title, *(f"  {name:<{width}}  {value}" for name, value in rows)]
    print_text(printable("\n".join(lines)))


def print_json(text: str) -> None:
    """Print JSON on standard output, without terminal escape sequences. Raises like ``print_text``."""
    print_text(printable_json(text))


def print_text(text: str) -> None:
    """Print text on standard output. Raises OutputError if it cannot be written, BrokenPipeError if nobody reads it."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_output()
        raise OutputError(f"cannot write to standard output: {error.strerror}; redirect it elsewhere") from error


def drop_output() -> None:
    """Discard what standard output did not accept, because Python would otherwise try again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Dropping(FileIO):
    """Drops what cannot be written: no build fails because its log is full or nobody reads it any more."""

    def write(self, data: Any) -> int:
        """Write the data; to the caller, this always succeeds."""
        with suppress(OSError):
            super().write(data)
        return memoryview(data).nbytes


def prepare_streams() -> None:
    """Make standard output and error accept everything: if a shell closed one (``>&-``), its output is dropped.

    Otherwise Python has no object to write to, and a file opened later (an engine) would receive the libraries' messages.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is sys.__stderr__ and isinstance(sys.stderr, TextIOWrapper):
        raw = BufferedWriter(_Dropping(sys.stderr.fileno(), "w", closefd=False))
        sys.stderr = TextIOWrapper(raw, sys.stderr.encoding, "backslashreplace", line_buffering=True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")  # file names may contain undecodable bytes


def check_result(path: str | None) -> None:
    """Reject early a ``--result`` that could not be written. Raises OutputError."""
    from cmx4trt.base.files import check_file

    if path:
        check_file(path, RESULT_SETTING)


def write_result(path: str, result: dict[str, Any]) -> None:
    """Write the outcome for the program that requested it (``--result``). Raises OutputError."""
    from cmx4trt.base.files import encode_json, write_atomic

    check_result(path)
    write_atomic(path, encode_json(json.dumps(result, indent=2, ensure_ascii=False)), RESULT_SETTING)
