"""Plots as SVG elements, drawn by matplotlib and colored by the page's own variables, so that they follow light and dark mode.

Text stays text, in the page's font; nothing is drawn on a screen. matplotlib is imported when the first plot is drawn.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cmx4trt.base.quantities import rounded
from cmx4trt.errors import MissingSoftwareError
from cmx4trt.report.estimates import Estimate, LayerEstimate
from cmx4trt.report.html import Html, element

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _FAINT = "#010203", "#010204"
_COLORS = {"fp32": "#010205", "fp16": "#010206", "bf16": "#010207", "int8": "#010208"}
_VARIABLES = {_INK: "--ink", _FAINT: "--line", **{color: f"--{name}" for name, color in _COLORS.items()}}
"""Colors that occur nowhere else in a drawing -> the variables of page.css that replace them."""
_LINES = ("-", "--", ":", "-.")
"""Line styles that distinguish the GPUs of one run."""
_MARKERS = {"fp32": "s", "fp16": "o", "bf16": "^", "int8": "D"}
"""Precisions differ in shape too, for color-blind readers."""
_SIZE = (6.0, 3.8)
"""Inches (72 units each); the page scales the drawing to its width, so text stays legible on a 375-pixel phone."""
_MARGINS = {"left": 0.19, "right": 0.97, "bottom": 0.16, "top": 0.95}
_LOG_FROM = 50.0
"""Ratio of largest to smallest value from which an axis is logarithmic: on a linear one the small values vanish."""
_SMALLEST, _LARGEST, _WHOLE = 12.0, 420.0, 1680.0
"""Areas of markers, in square points: limits, and the area that all layers together would have."""

_STYLE: Mapping[str, Any] = {
    "svg.fonttype": "none",
    "font.size": 12,
    "text.color": _INK,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 11,
}


def plot_roofline(estimate: Estimate) -> Html:
    """The roofline of a GPU (log-log: operations per second over operations per byte) with a marker for each layer.

    A marker's area is the layer's share of the time.
    """
    counted = [b for b in estimate.layers if b.layer.macs]
    rates = estimate.gpu.tera_per_second
    precisions = sorted({b.layer.precision for b in counted}, key=lambda precision: -rates[precision])
    bandwidth = estimate.gpu.gigabytes_per_second / 1e3
    low = min([1.0, *(b.intensity / 2 for b in counted)])
    high = max([3000.0, *(b.intensity * 2 for b in counted)])

    def draw(axes: Axes) -> None:
        for number, precision in enumerate(precisions):
            peak = rates[precision]
            ridge = [low, peak / bandwidth, high]
            axes.plot(ridge, [low * bandwidth, peak, peak], color=_COLORS[precision], linewidth=1.8)
            place, text = (-2, -17 if number else 13), f"{precision.upper()}: {peak:g} T/s"
            axes.annotate(text, (high, peak), place, textcoords="offset points", ha="right")
            _mark_layers(axes, [b for b in counted if b.layer.precision == precision], estimate)
        middle = (low * min(rates.values()) / bandwidth) ** 0.5
        place, text = (10, -14), f"memory: {bandwidth * 1e3:,.0f} GB/s"
        axes.annotate(text, (middle, middle * bandwidth), place, textcoords="offset points")
        axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low * bandwidth, 5 * rates[precisions[0]]))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set(xlabel="operations per byte moved", ylabel="10¹² operations per second")
        axes.grid(visible=True, which="major")

    return _svg(
        draw, "roofline", f"Roofline of {estimate.gpu.name}: one mark per layer; the table of layers has the figures"
    )


def _mark_layers(axes: Axes, layers: Sequence[LayerEstimate], estimate: Estimate) -> None:
    """Markers of ``layers``, all of one precision."""
    precision = layers[0].layer.precision
    speeds = [2 * b.layer.macs * estimate.batch / b.seconds / 1e12 for b in layers]
    areas = [min(max(_SMALLEST, _WHOLE * b.seconds / estimate.seconds), _LARGEST) for b in layers]
    axes.scatter(
        [b.intensity for b in layers],
        speeds,
        s=areas,
        marker=_MARKERS[precision],
        color=_COLORS[precision],
        alpha=0.55,
        edgecolors=_INK,
        linewidths=0.6,
        zorder=3,
    )


def plot_ranges(ranges: Sequence[float]) -> Html:
    """The largest magnitude that each int8 layer's input can represent, in the order of layers."""

    smallest, largest = min(ranges), max(ranges)

    def draw(axes: Axes) -> None:
        places, floor = list(range(1, len(ranges) + 1)), 0.0
        if largest > _LOG_FROM * smallest:
            floor = smallest / 2
            axes.set(yscale="log")
            axes.yaxis.set_major_formatter("{x:g}")
        axes.vlines(places, floor, ranges, color=_COLORS["int8"], linewidth=1.2, alpha=0.6)
        axes.plot(places, ranges, "D", color=_COLORS["int8"], markersize=4)
        axes.set(ylim=(floor, largest * 1.1), xlim=(0, len(ranges) + 1))
        axes.set(xlabel="int8 layers, first to last", ylabel="input range ±")
        axes.grid(visible=True, axis="y", which="major")

    return _svg(draw, "ranges", "Range of every int8 layer's input; the table of layers has the figures")


def plot_throughput(name: str, lines: Mapping[str, Sequence[tuple[int, float]]], gpu: str) -> Html:
    """The estimated images per second by batch size, one line per precision; ``name`` is unique on the page."""

    def draw(axes: Axes) -> None:
        batches = sorted({batch for points in lines.values() for batch, _ in points})
        for precision, points in lines.items():
            color = _COLORS.get(precision, _INK)
            axes.plot(*zip(*points, strict=True), marker=_MARKERS.get(precision, "o"), color=color, linewidth=1.8)
            axes.annotate(precision.upper(), points[-1], (8, -4), textcoords="offset points")
        axes.set(xscale="log", xticks=batches, xticklabels=[str(batch) for batch in batches], ylim=(0, None))
        axes.margins(x=0.15)
        axes.yaxis.set_major_formatter("{x:,.10g}")
        axes.set(xlabel="batch size", ylabel="images per second (estimate)")
        axes.grid(visible=True, axis="y")

    return _svg(draw, name, f"Estimated throughput on {gpu} by batch size; the table above has the figures")


def plot_run(name: str, seconds: Sequence[float], curves: Sequence[tuple[str, Sequence[Sequence[float]]]]) -> Html:
    """A run over time: one panel per curve, which is a label and one line per GPU; ``name`` as in ``plot_throughput``."""

    def draw(panels: Any) -> None:
        for axes, (label, lines) in zip(panels, curves, strict=True):
            for line, style in zip(lines, _LINES * len(lines), strict=False):
                axes.plot(seconds[: len(line)], line, style, color=_COLORS["int8"], linewidth=1.6)
            axes.set(ylabel=label, ylim=(0, 1.1 * max(1.0, *(max(line, default=0) for line in lines))))
            axes.yaxis.set_major_formatter("{x:,.10g}")
            axes.grid(visible=True, axis="y")
        panels[-1].set(xlabel="seconds")

    shown = ", ".join(label for label, _ in curves)
    return _svg(draw, name, f"{shown} over the run; the result beside LoadGen's logs has the figures", len(curves))


def load_matplotlib() -> tuple[Any, type[Figure]]:
    """The library and its Figure; the first call takes half a second. Raises MissingSoftwareError without matplotlib."""
    # Its messages about font caches are irrelevant to a build.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except Exception as error:  # a broken installation fails in many ways
        raise MissingSoftwareError(
            f"plots need matplotlib, which cannot be imported ({error}); pip install matplotlib"
        ) from error
    return matplotlib, Figure


def _svg(draw: Callable[[Any], None], name: str, description: str, panels: int | None = None) -> Html:
    """What ``draw`` draws, as an element whose ids begin with ``name``. Raises MissingSoftwareError without matplotlib.

    ``draw`` receives axes; if ``panels`` is a number, a list of that many, one below the other.
    """
    matplotlib, figure_class = load_matplotlib()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure: Figure = figure_class(figsize=_SIZE)
        figure.patch.set_visible(False)
        axes = figure.subplots(panels or 1, sharex=True, squeeze=False, gridspec_kw=_MARGINS)[:, 0]
        for one in axes:
            one.patch.set_visible(False)
        draw(axes[0] if panels is None else axes)
        for one in axes:
            one.minorticks_off()
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    return element("div", _for_page(stream.getvalue(), name), role="img", aria_label=description, class_="plot")


def _for_page(svg: str, name: str) -> Html:
    """The drawing without its header, with colors from variables, unique ids, and no fixed size."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{name}-", svg)
    svg = re.sub(r"font: ([0-9.]+)px [^;\"]*", r"font-size: \1px; font-family: inherit", svg)  # matplotlib before 3.10
    svg = re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    return Html(re.sub(r"\n\s*", "\n", svg))


def plot_trade(
    name: str, points: Sequence[tuple[str, float, float]], front: Sequence[tuple[float, float]], labels: tuple[str, str]
) -> Html:
    """Points (precision, x, y) and the Pareto front; ``labels``: of the two axes."""

    def draw(axes: Axes) -> None:
        for precision in sorted({precision for precision, _, _ in points}):
            chosen = [(x, y) for own, x, y in points if own == precision]
            color, marker = _COLORS.get(precision, _INK), _MARKERS.get(precision, "o")
            axes.plot(*zip(*chosen, strict=True), marker, color=color, markersize=7, alpha=0.8, label=precision.upper())
        axes.plot(*zip(*front, strict=True), "--", color=_INK, linewidth=1.2)
        for name_of_scale, values in (("xscale", [x for _, x, _ in points]), ("yscale", [y for _, _, y in points])):
            if min(values) > 0 and max(values) > _LOG_FROM * min(values):
                axes.set(**{name_of_scale: "log"})
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, place: rounded(value))
        axes.set(xlabel=labels[0], ylabel=labels[1])
        axes.margins(0.08)
        axes.grid(visible=True, which="major")
        axes.legend()

    return _svg(draw, name, f"{labels[1]} over {labels[0]}; the table of cells has the figures")
