"""Text becomes markup only on purpose."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from cmx4trt.report.html import Html, element, escaped, joined


class Reader(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(), st.text())
def test_any_text_stays_text(content: str, value: str) -> None:
    read = Reader(element("p", content, title=value))
    assert read.tags == ["p"]
    assert [name for name, _ in read.attributes] == ["title"]
    assert len(read.text) == len(content)
    changed = {new for old, new in zip(content, read.text, strict=True) if old != new}
    assert changed <= {"\N{REPLACEMENT CHARACTER}", "?"}


def test_elements_are_not_escaped_twice() -> None:
    assert element("p", "a < b", element("b", "&")) == "<p>a &lt; b<b>&amp;</b></p>"
    assert joined(Html("<i>"), "<i>") == "<i>&lt;i&gt;"


def test_attributes() -> None:
    written = element("td", class_="x", data_value=None, hidden=True, open=False, aria_label='"q"')
    assert written == '<td class="x" hidden aria-label="&quot;q&quot;"></td>'
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'


def test_markup_given_as_an_attribute_is_text() -> None:
    assert element("p", title=Html('"><script>')) == '<p title="&quot;&gt;&lt;script&gt;"></p>'


def test_what_html_cannot_hold_is_replaced() -> None:
    assert escaped("a\0b\x1b\udcff") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}?"
