"""Text from files and processes, as a page can show it."""

from __future__ import annotations

_MARKDOWN = frozenset("\\`*_{}[]()#+-.!|<>~$:")


def printable(text: str) -> str:
    """Text that can be sent as UTF-8: what stands for other bytes in it, or for half a character, becomes an escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def plain(text: str) -> str:
    """Text that shows as it is where Streamlit reads Markdown, and in one line: a line break would begin another row."""
    return "".join(f"\\{c}" if c in _MARKDOWN else c for c in " ".join(printable(text).split()))
