"""Text of files and processes on the page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmx4trt.gui.text import plain, printable


@given(st.text(st.characters(exclude_categories=[])))
def test_whatever_it_holds_it_can_be_sent_in_one_line(text: str) -> None:
    """Also half characters, which JSON can hold and UTF-8 cannot."""
    printable(text).encode()
    assert len(plain(text).splitlines()) <= 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [("engines/mein Ordner é 引擎", "engines/mein Ordner é 引擎"), ("a\udcff", "a\\udcff"), ("\ud800", "\\ud800")],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ResNet-50 | v1.5", "ResNet\\-50 \\| v1\\.5"),
        ("two\nrows | of | a table\r\n", "two rows \\| of \\| a table"),
        ("$x$ <b>", "\\$x\\$ \\<b\\>"),
    ],
)
def test_plain(text: str, shown: str) -> None:
    assert plain(text) == shown
