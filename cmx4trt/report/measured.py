"""The section on what MLPerf LoadGen measured, if it has run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cmx4trt.base.quantities import rounded
from cmx4trt.report import parts
from cmx4trt.report.facts import EngineFacts, LoadGenRun
from cmx4trt.report.html import Html, element, joined
from cmx4trt.store.results import COMPLETE, Accuracy, BenchResult, Timeline

_COMMAND = "cmx4trt bench ENGINE"
_STAND_IN = "This is not the speed of the engine: its graph ran instead, as the line 'what ran' says."
_POINTS = 3
"""Minimum number of points of a curve that is worth drawing."""
_DIGITS = 4
"""Significant digits of measured values; an estimate has three."""


def measured_section(facts: EngineFacts, note: Callable[[str], None]) -> Html:
    """All runs found beside the engine; if there are none, how to make one. ``note`` receives failures of plots."""
    notes = [parts.paragraph(f"Unreadable result: {text}.", kind="soft") for text in facts.unreadable_runs]
    if not facts.runs:
        text = parts.paragraph(
            "Nothing has been measured yet. ", parts.code(_COMMAND), " runs MLPerf LoadGen.", kind="soft"
        )
        return parts.section("Measured with LoadGen", text, *notes)
    runs = (_run(run, number, note) for number, run in enumerate(facts.runs))
    return parts.section("Measured with LoadGen", *runs, *notes)


def _run(run: LoadGenRun, number: int, note: Callable[[str], None]) -> Html:
    result = run.result
    departures = (f"{name} {one.used} (not {one.mlperf})" for name, one in result.departures.items())
    latency = "query latency" if result.scenario == "MultiStream" else "latency"
    rows = [
        ("result", _outcome(result)),
        ("what ran", result.executed),
        ("engine", "as it is now" if run.of_this_engine else "an earlier build, since replaced"),
        (latency, latencies_of_run(result)),
        ("accuracy", _judged(result.accuracy)),
        ("data", result.data or parts.NONE),
        ("deviations from MLPerf", "; ".join(departures) or parts.NONE),
        ("samples by GPU", shares_of_run(result)),
        ("throttled", "; ".join(result.notes) or parts.NONE),
        ("logs", parts.code(run.folder)),
    ]
    figure = figure_of_run(result)
    title = f"{result.scenario}, {result.mode}" + (f": {figure}" if figure != parts.NONE else "")
    stand_in = "" if result.ran_engine else parts.paragraph(_STAND_IN, kind="soft")
    described = parts.definitions(row for row in rows if row[1] != parts.NONE)
    return joined(element("h3", title), stand_in, described, _over_time(result.timeline, f"run{number}", note))


def shares_of_run(result: BenchResult) -> str:
    """The share of samples that each of several GPUs processed."""
    shares = (f"GPU {gpu.index} {100 * gpu.share:.1f} %" for gpu in result.gpus)
    return ", ".join(shares) if len(result.gpus) > 1 else parts.NONE


def _over_time(timeline: Timeline | None, name: str, note: Callable[[str], None]) -> Html:
    """Samples per second, clock and power over the run, if it lasted long enough."""
    if timeline is None:
        return joined()
    lines: dict[str, list[Sequence[float]]] = {
        "samples/s": [timeline.samples_per_second],
        "clock, MHz": [gpu.sm_clock_mhz for gpu in timeline.gpus],
        "power, W": [gpu.watts for gpu in timeline.gpus],
    }
    curves = [
        (label, [list(map(float, line)) for line in found])
        for label, found in lines.items()
        if any(len(line) >= _POINTS for line in found)
    ]
    if len(timeline.seconds) < _POINTS or not curves:
        return joined()
    from cmx4trt.report.plots import plot_run

    caption = "The run over time; each GPU has its own line style."
    return parts.drawn(lambda: plot_run(name, list(timeline.seconds), curves), caption, note)


def figure_of_run(result: BenchResult) -> str:
    """The metric that MLPerf ranks the scenario by, with its unit; latencies in ms, with the name of the latency."""
    metric = result.metric
    if metric is None:
        return _accuracy(result.accuracy)
    if metric.unit == "ns":
        return f"{parts.milliseconds(metric.value / 1e9, _DIGITS)} ({metric.name.replace('_', ' ')})"
    return f"{rounded(metric.value, _DIGITS)} {metric.unit}"


def what_ran(result: BenchResult) -> str:
    """What ran, without the reasons: an engine on a GPU, or its graph in ONNX Runtime."""
    return result.executed.split(";")[0]


def latencies_of_run(result: BenchResult) -> str:
    """Latency percentiles in milliseconds."""
    texts = [f"p{float(name):g} {rounded(value / 1e6, _DIGITS)}" for name, value in result.latency_ns.items()]
    return f"{', '.join(texts)} ms" if texts else parts.NONE


def _outcome(result: BenchResult) -> Html:
    if result.status != COMPLETE:
        return joined(element("span", result.status, class_="mark no"), f": {result.reason}")
    if result.valid is None:
        return joined("complete")
    if result.valid:
        return element("span", "✓ VALID", class_="mark yes")
    return joined(element("span", "✗ INVALID", class_="mark no"), f": {result.reason}")


def _accuracy(accuracy: Accuracy | None) -> str:
    """The value itself: '76.1 % top-1'."""
    if accuracy is None or accuracy.value is None:
        return parts.NONE
    return f"{accuracy.value:g} % {accuracy.metric}"


def _judged(accuracy: Accuracy | None) -> str:
    """The value, the number of images, the target, and the verdict."""
    if accuracy is None:
        return parts.NONE
    words = [
        f"{_accuracy(accuracy)} on {accuracy.images} images",
        f"MLPerf requires {accuracy.target:g} %" if accuracy.target is not None else "",
        f"verdict {accuracy.verdict}",
        accuracy.note or "",
    ]
    return "; ".join(word for word in words if word).removeprefix(f"{parts.NONE} on ")
