"""Records of manifests and results, which hold numbers for programs, as rows for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from cmx4trt.base.quantities import binary_size, decimal_size

_LIMITS = ("workspace_size",)
"""Limits that users give in powers of two; other sizes are those of files and memory."""


def rows_of_record(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, value) of everything that is there: nothing of what is None, and what lies in an inner record with both names."""
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from ((f"{name} {inner}", text) for inner, text in rows_of_record(value))
        elif value is not None:
            yield name, readable(name, value)


def readable(name: str, value: Any) -> str:
    """The value called ``name`` as text: sizes with their unit, yes and no, and lists of plain values in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and name in _LIMITS:
        return binary_size(value)
    if isinstance(value, int) and (name == "bytes" or name.endswith("_bytes")):
        return decimal_size(value)
    if isinstance(value, (list, tuple)) and all(isinstance(part, (str, int, float)) for part in value):
        return ", ".join(map(str, value)) or "none"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list, tuple)) else str(value)
