"""Free memory of the host: checked before samples are loaded, so that a run is rejected instead of killed."""

from __future__ import annotations

import re
from collections.abc import Callable

_MEMINFO = "/proc/meminfo"
_GROUP = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current")
"""A container's memory limit and usage (Linux control groups, version 2)."""
_RESERVE = 256 << 20
"""Bytes reserved for LoadGen's queries and everything else."""


def _text_of(path: str) -> str:
    try:
        with open(path, encoding="ascii") as stream:
            return stream.read()
    except OSError:
        return ""


def free_memory(text_of: Callable[[str], str] = _text_of) -> int | None:
    """Bytes that can be allocated without swapping; None if the system does not report it.

    ``text_of``: the content of one of the system's files by its path, empty if there is none.
    """
    found = []
    if (line := re.search(r"^MemAvailable:\s+(\d+) kB", text_of(_MEMINFO), re.MULTILINE)) is not None:
        found.append(int(line[1]) << 10)
    limit, used = (text_of(path).strip() for path in _GROUP)
    if limit.isdigit() and used.isdigit():
        found.append(int(limit) - int(used))
    return max(0, min(found) - _RESERVE) if found else None


def megabytes(size: int) -> str:
    """'308 MB'."""
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e6:.2g} MB"
