"""Building blocks of all pages: the frame, tables, bars, cards, definition lists; and the formatting of quantities."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cmx4trt import __version__
from cmx4trt.base.quantities import rounded
from cmx4trt.errors import MissingSoftwareError
from cmx4trt.report.html import Html, element, escaped, joined
from cmx4trt.report.writing import MARKER

NONE = "\N{EN DASH}"
"""An empty cell."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column header; ``number``: its cells are figures, right-aligned and sorted by value; ``wide``: for bars."""

    title: str
    number: bool = False
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """A cell that shows ``text`` and is sorted by ``value``."""

    value: float
    text: str


def page(title: str, *contents: object) -> str:
    """A whole document: inline style and script, and a policy that makes browsers load and run nothing else."""
    style, script = _file("page.css"), _file("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        Html(f'<meta name="generator" {MARKER}>'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Html(style)),
    )
    footer = element("footer", f"Written by cmx4trt {__version__}. Self-contained: loads nothing from elsewhere.")
    body = element("body", element("main", *contents), footer, element("script", Html(script)))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _file(name: str) -> str:
    with open(os.path.join(os.path.dirname(__file__), name), encoding="utf-8") as stream:
        return stream.read()


def section(title: str, *contents: object, long: bool = False) -> Html:
    """A titled section; ``long`` ones may be split across printed pages."""
    return element("section", element("h2", title), *contents, class_="long" if long else None)


def paragraph(*contents: object, kind: str | None = None) -> Html:
    """A paragraph with a CSS class."""
    return element("p", *contents, class_=kind)


def definitions(rows: Iterable[tuple[str, object]]) -> Html:
    """A definition list."""
    return element("dl", *(joined(element("dt", name), element("dd", content)) for name, content in rows))


def cards(rows: Iterable[tuple[str, str]]) -> Html:
    """The few figures that matter most: (figure, meaning)."""
    return element(
        "ul", *(element("li", element("b", big), element("span", small)) for big, small in rows), class_="cards"
    )


def table(
    caption: str,
    columns: Sequence[Column],
    rows: Iterable[Sequence[object]],
    kind: str = "",
    row_kinds: Sequence[str] = (),
) -> Html:
    """A table with a caption; the first cell of a row is its header. Wide tables scroll independently, also by keyboard."""
    head = element("tr", *(element("th", c.title, scope="col", class_="number" if c.number else None) for c in columns))
    body = []
    for index, row in enumerate(rows):
        cells = [
            _cell(column, content, number == 0)
            for number, (column, content) in enumerate(zip(columns, row, strict=True))
        ]
        body.append(element("tr", *cells, class_=row_kinds[index] if row_kinds else None))
    title = element("caption", element("span", caption))
    content = element("table", title, element("thead", head), element("tbody", *body), class_=kind or None)
    return element("div", content, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _cell(column: Column, content: object, first: bool) -> Html:
    value = f"{content.value:.10g}" if isinstance(content, Figure) else None
    content = content.text if isinstance(content, Figure) else content
    kind = "number" if column.number else "wide" if column.wide else None
    if first:
        return element("th", content, scope="row", class_=kind)
    return element("td", content, class_=kind, data_value=value)


def bar(share: float, start: float = 0.0, limit: float | None = None) -> Html:
    """A bar over ``share`` of its cell, from ``start``; ``limit`` marks a position. The figure is given as text beside it."""
    style = f"left:{100 * start:.2f}%;width:{100 * min(share, 1 - start):.2f}%"
    mark = element("i", style=f"left:{100 * limit:.2f}%") if limit is not None else ""
    return element("span", element("span", style=style), mark, class_="bar", aria_hidden="true")


def figure(picture: object, caption: str) -> Html:
    """A picture with its caption."""
    return element("figure", picture, element("figcaption", caption))


def drawn(plot: Callable[[], Html], caption: str, note: Callable[[str], None]) -> Html:
    """A plot with its caption, or, if matplotlib is missing, a sentence instead, which ``note`` also receives."""
    try:
        return figure(plot(), caption)
    except MissingSoftwareError as error:
        note(str(error))
        return paragraph(f"No plot: {error}.", kind="soft")


def code(text: object) -> Html:
    """Monospaced text."""
    return element("code", escaped(text))


def megabytes(size: float) -> str:
    """Bytes as MB (10^6)."""
    return f"{size / 1e6:,.1f} MB"


def seconds(value: float) -> str:
    """Seconds with as many digits as are significant."""
    return f"{value:.2f} s" if value < 100 else f"{value:,.0f} s"


def milliseconds(value: float, digits: int = 3) -> str:
    """Seconds as ms, with ``digits`` significant digits."""
    return f"{rounded(value * 1e3, digits)} ms"
