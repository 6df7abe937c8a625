"""The sections of a report that only an engine's backend can write."""

from __future__ import annotations

from cmx4trt.backends.facts import Cell, Section, Share
from cmx4trt.report import parts
from cmx4trt.report.facts import EngineFacts
from cmx4trt.report.html import Html, joined
from cmx4trt.report.parts import Column


def backend_sections(facts: EngineFacts) -> list[Html]:
    """What the backend reports about the engine; nothing if this installation does not have that backend."""
    if facts.backend is None:
        return []
    return [
        _section(one)
        for one in facts.backend.sections(facts.manifest.builder.to_dict(), facts.manifest.execution.to_dict())
    ]


def _section(section: Section) -> Html:
    content: list[Html] = [parts.paragraph(text) for text in section.paragraphs]
    if section.rows:
        columns = [Column(title) for title in section.columns]
        content.append(parts.table(section.title, columns, [tuple(map(_shown, row)) for row in section.rows]))
    return parts.section(section.title, *content)


def _shown(cell: Cell) -> object:
    return joined(cell.text, parts.bar(cell.part)) if isinstance(cell, Share) else cell
