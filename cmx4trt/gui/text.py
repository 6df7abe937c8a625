"""Text from files and processes, made safe for display on the page."""

from __future__ import annotations

_MARKDOWN = frozenset("\\`*_{}[]()#+-.!|<>~$:")


def printable(text: str) -> str:
    """Text that can be sent as UTF-8: surrogates for other bytes, or for half a character, become escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def plain(text: str) -> str:
    """Text that is shown literally where Streamlit expects Markdown, in one line: a line break would begin another row."""
    return "".join(f"\\{c}" if c in _MARKDOWN else c for c in " ".join(printable(text).split()))
