"""Elements of a page. Text is escaped when it becomes part of an element; only elements are not escaped again.

Thirty lines instead of a template engine: pages are composed of functions, so type checker and tests reach everything in them,
escaping cannot be forgotten, and a build that writes a report needs no additional import.
"""

from __future__ import annotations

import html

_VOID = frozenset(("br", "col", "hr", "input", "link", "meta"))
_UNPRINTABLE = dict.fromkeys((*range(9), 11, 12, *range(14, 32), *range(0x7F, 0xA0)), "\N{REPLACEMENT CHARACTER}")
"""Characters that HTML does not allow."""


class Html(str):
    """Text that already is markup."""

    __slots__ = ()


def escaped(content: object) -> Html:
    """``content`` as markup: escaped unless it is Html; surrogates of undecodable file names become question marks."""
    if isinstance(content, Html):
        return content
    text = str(content).translate(_UNPRINTABLE).encode("utf-8", "replace").decode()
    return Html(html.escape(text))


def joined(*contents: object) -> Html:
    """The contents one after the other."""
    return Html("".join(escaped(content) for content in contents))


def element(name: str, /, *contents: object, **attributes: object) -> Html:
    """``<name …>contents</name>``. Attributes: a final underscore is dropped, others become hyphens; None and False are left
    out, True has no value."""
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escaped(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{joined(*contents)}</{name}>")
