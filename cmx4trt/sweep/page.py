"""The page of a sweep: the best of each scenario, what is traded for what, batch by precision, every cell, what failed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import quote

from cmx4trt.base.quantities import rounded
from cmx4trt.report import parts
from cmx4trt.report.facts import order_of_precision
from cmx4trt.report.html import Html, element, joined
from cmx4trt.report.parts import Column, Figure
from cmx4trt.sweep.results import THROUGHPUTS, UNFINISHED, Row, best_rows, failures
from cmx4trt.sweep.status import DONE

_MARKS = {DONE: "✓ done", UNFINISHED: "\N{EN DASH} not finished", "failed": "✗ failed", "invalid": "! INVALID"}
_STAND_IN = (
    "Cells marked “graph” do not show the speed of an engine: no device could run it, so its graph ran in ONNX Runtime. They "
    "are compared only with each other."
)
_DIGITS = 4
_STRONGEST = 55
"""Per cent of color in the best cell of a heat map: text stays legible on it, light and dark."""
_POINTS = 2
"""Of a plot that shows something."""


def page_of_sweep(title: str, rows: Sequence[Row], folder: str, note: Callable[[str], None]) -> str:
    """The page as HTML; links are relative to ``folder``, where it will lie. ``note`` is told what is missing."""
    return parts.page(
        f"{title}: sweep",
        _head(title, rows),
        _failures(rows),
        _best(rows, folder),
        *_trades(rows, note),
        *_heat_maps(rows),
        _cells(rows, folder),
    )


def _head(title: str, rows: Sequence[Row]) -> Html:
    count = {state: sum(row.state == state for row in rows) for state in _MARKS}
    figures = [
        (str(len(rows)), "cells"),
        (str(len({row.engine for row in rows if row.engine})), "engines"),
        (str(count[DONE]), "done"),
        (str(count["failed"] + count["invalid"]), "failed or INVALID"),
        (str(count[UNFINISHED]), "not finished"),
    ]
    networks = " and ".join(sorted({row.network for row in rows}))
    stand_in = any(row.ran_on and not row.engine_ran for row in rows)
    return joined(
        element("h1", title),
        parts.paragraph(f"A sweep over engines of {networks}.", kind="soft"),
        parts.cards(figures),
        parts.paragraph(_STAND_IN, kind="estimate") if stand_in else "",
    )


def _failures(rows: Sequence[Row]) -> Html:
    failed = failures(rows)
    if not failed:
        return joined()
    shown = [(row.cell, _MARKS[row.state], row.error) for row in failed]
    columns = (Column("cell"), Column("outcome"), Column("why"))
    return parts.section("What failed", parts.table("The others are not affected", columns, shown), long=True)


def _best(rows: Sequence[Row], folder: str) -> Html:
    shown = []
    for (network, scenario, device), row in best_rows(rows).items():
        shown.append(
            (
                joined(scenario, element("small", network)),
                _engine(row, folder),
                _where(device, row),
                _number(row.samples_per_second),
                _number(row.latency_ms),
                _accuracy(row),
            )
        )
    columns = (
        *(Column("scenario"), Column("best cell"), Column("ran on"), Column("samples/s", True)),
        *(Column("latency, ms", True), Column("accuracy")),
    )
    caption = f"By samples per second in {' and '.join(THROUGHPUTS)}, by latency in the others; valid results only"
    if not shown:
        return parts.section("Best of each scenario", parts.paragraph("Nothing has been measured yet.", kind="soft"))
    return parts.section("Best of each scenario", parts.table(caption, columns, shown))


def _trades(rows: Sequence[Row], note: Callable[[str], None]) -> Iterable[Html]:
    """For each scenario and device: throughput against latency, accuracy and size."""
    for number, ((network, scenario, device), group) in enumerate(_groups(rows).items()):
        drawn = [
            _trade(f"latency-{number}", group, "latency_ms", "latency, ms", -1, note),
            _trade(f"accuracy-{number}", group, "accuracy", f"accuracy, {group[0].accuracy_metric}", 1, note),
            _trade(f"size-{number}", group, "bytes", "engine file, MB", -1, note),
        ]
        shown = [plot for plot in drawn if plot]
        if shown:
            yield parts.section(f"{network}, {scenario}, {_where(device, group[0])}", *shown)


def _trade(
    name: str, rows: Sequence[Row], field: str, label: str, sign: int, note: Callable[[str], None]
) -> Html | None:
    """``sign``: 1 where more of ``field`` is better, -1 where less is."""
    scale = 1e-6 if field == "bytes" else 1.0
    points = [
        (row.precision, scale * value, row.samples_per_second)
        for row in rows
        if (value := getattr(row, field)) is not None and row.samples_per_second is not None
    ]
    if len({x for _, x, _ in points}) < _POINTS:
        return None
    from cmx4trt.report.plots import plot_trade

    front = pareto_front([(x, y) for _, x, y in points], sign)
    caption = "Dashed: the Pareto front, cells that no other beats in both."
    return parts.drawn(lambda: plot_trade(name, points, front, (label, "samples per second")), caption, note)


def pareto_front(points: Iterable[tuple[float, float]], sign: int) -> list[tuple[float, float]]:
    """The points (x, y) that no other beats in both; more y is better, and more x (``sign`` 1) or less (-1). By rising x."""
    front: list[tuple[float, float]] = []
    for x, y in sorted(set(points), key=lambda point: (-sign * point[0], -point[1])):
        if not front or y > front[-1][1]:
            front.append((x, y))
    return sorted(front)


def _heat_maps(rows: Sequence[Row]) -> Iterable[Html]:
    maps = [
        _heat_map(f"{network}, {scenario}, {_where(device, group[0])}", group)
        for (network, scenario, device), group in _groups(rows).items()
    ]
    if maps:
        yield parts.section("Batch by precision", *maps, long=True)


def _heat_map(title: str, rows: Sequence[Row]) -> Html:
    """Samples per second; the stronger the color, the more. Cells that several share show the best, and how many there are."""
    precisions = sorted({row.precision for row in rows}, key=order_of_precision)
    top = max(row.samples_per_second or 0 for row in rows) or 1
    lines = []
    for batch in sorted({row.batch_size for row in rows}):
        cells: list[object] = []
        for precision in precisions:
            found = [row for row in rows if (row.batch_size, row.precision) == (batch, precision)]
            cells.append(_heat(found, top) if found else parts.NONE)
        lines.append((f"batch {batch}", *cells))
    columns = (Column(""), *(Column(precision.upper(), True) for precision in precisions))
    return parts.table(f"{title}: samples per second", columns, lines, kind="heat")


def _heat(rows: Sequence[Row], top: float) -> Html:
    best = max(rows, key=lambda row: row.samples_per_second or 0)
    value = best.samples_per_second or 0
    strength = _STRONGEST * value / top
    more = element("small", f"best of {len(rows)}") if len(rows) > 1 else ""
    style = f"background:color-mix(in srgb,var(--bar) {strength:.0f}%,transparent)"
    return element("div", rounded(value, _DIGITS), more, class_="heat", style=style)


def _cells(rows: Sequence[Row], folder: str) -> Html:
    ordered = sorted(rows, key=lambda r: (r.network, r.scenario, order_of_precision(r.precision), r.batch_size, r.cell))
    shown = [
        (
            joined(_engine(row, folder), element("small", row.cell)),
            _MARKS[row.state],
            row.scenario,
            _where(row.ran_on, row),
            _number(row.samples_per_second),
            _number(row.latency_ms),
            _accuracy(row),
            Figure(row.bytes or -1, parts.NONE if row.bytes is None else f"{row.bytes / 1e6:,.1f}"),
            row.verified or parts.NONE,
        )
        for row in ordered
    ]
    columns = (
        *(Column("engine"), Column("state"), Column("scenario"), Column("ran on"), Column("samples/s", True)),
        *(Column("latency, ms", True), Column("accuracy"), Column("MB", True), Column("graph verified")),
    )
    caption = (
        "Links open an engine's report. Latency: the scenario's own figure in SingleStream and MultiStream, else the "
        "99th percentile"
    )
    kinds = [row.precision for row in ordered]
    table = parts.table(caption, columns, shown, kind="engines sortable", row_kinds=kinds)
    return parts.section("All cells", table, long=True)


def _groups(rows: Sequence[Row]) -> dict[tuple[str, str, str], list[Row]]:
    """The measured cells that can be compared: of one network, in one scenario, on one device."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row.state == DONE and row.samples_per_second is not None:
            groups.setdefault((row.network, row.scenario, row.ran_on), []).append(row)
    return dict(sorted(groups.items()))


def _engine(row: Row, folder: str) -> Html:
    if not row.report:
        return joined(row.label)
    return element("a", row.label, href=quote(os.path.relpath(row.report, folder)))


def _where(device: str, row: Row) -> str:
    return device if row.engine_ran or not device else f"{device} (graph)"


def _number(value: float | None) -> Figure:
    return Figure(-1, parts.NONE) if value is None else Figure(value, rounded(value, _DIGITS))


def _accuracy(row: Row) -> str:
    return parts.NONE if row.accuracy is None else f"{rounded(row.accuracy, _DIGITS)} % ({row.accuracy_metric})"
