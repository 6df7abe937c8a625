"""What commands leave behind: tables on standard output, and the result file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

RESULT_SETTING = "--result"


def print_table(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """A title, and below it a line for each (name, value)."""
    width = max((len(name) for name, _ in rows), default=0)
    lines = [title, *(f"  {name:<{width}}  {value}" for name, value in rows)]
    print("\n".join(lines), flush=True)


def check_result(path: str | None) -> None:
    """Refuse early a ``--result`` that could not be written. Raises OutputError."""
    from cmx4trt.files import check_file

    if path:
        check_file(path, RESULT_SETTING)


def write_result(path: str, result: dict[str, Any]) -> None:
    """The outcome for the program that asked for it (``--result``). Raises OutputError."""
    from cmx4trt.files import write_atomic

    check_result(path)
    text = json.dumps(result, indent=2, ensure_ascii=False)
    write_atomic(path, text.encode("utf-8", "surrogateescape"), RESULT_SETTING)
