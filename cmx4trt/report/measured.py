"""The section on what MLPerf LoadGen measured, where it has run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cmx4trt.base.quantities import rounded
from cmx4trt.report import parts
from cmx4trt.report.facts import EngineFacts, LoadGenRun
from cmx4trt.report.html import Html, element, joined

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
    departures = (f"{name} {_used(values)}" for name, values in (result.get("departures") or {}).items())
    latency = "query latency" if result.get("scenario") == "MultiStream" else "latency"
    rows = [
        ("result", _outcome(result)),
        ("what ran", str(result.get("executed"))),
        ("the engine file", "this one" if run.of_this_engine else "an earlier build of it, since replaced"),
        (latency, latencies_of_run(result)),
        ("accuracy", _judged(result.get("accuracy") or {})),
        ("data", str(result.get("data") or parts.NONE)),
        ("deviations from MLPerf", "; ".join(departures) or parts.NONE),
        ("samples by GPU", shares_of_run(result)),
        ("throttled", "; ".join(map(str, _list(result.get("notes")))) or parts.NONE),
        ("logs", parts.code(run.folder)),
    ]
    figure = figure_of_run(result)
    title = f"{result.get('scenario')}, {result.get('mode')}" + (f": {figure}" if figure != parts.NONE else "")
    stand_in = "" if run.ran_engine else parts.paragraph(_STAND_IN, kind="soft")
    described = parts.definitions(row for row in rows if row[1] != parts.NONE)
    return joined(element("h3", title), stand_in, described, _over_time(result, f"run{number}", note))


def shares_of_run(result: Mapping[str, Any]) -> str:
    """The share of samples that each of several GPUs processed."""
    gpus = [gpu for gpu in _list(result.get("gpus")) if isinstance(gpu, dict)]
    shares = (f"GPU {gpu.get('index')} {100 * _number(gpu.get('share')):.1f} %" for gpu in gpus)
    return ", ".join(shares) if len(gpus) > 1 else parts.NONE


def _over_time(result: Mapping[str, Any], name: str, note: Callable[[str], None]) -> Html:
    """Samples per second, clock and power over the run, if it lasted long enough."""
    timeline = result.get("timeline") or {}
    seconds = [_number(at) for at in _list(timeline.get("seconds"))]
    gpus = [gpu for gpu in _list(timeline.get("gpus")) if isinstance(gpu, dict)]
    lines = {
        "samples/s": [timeline.get("samples_per_second")],
        "clock, MHz": [gpu.get("sm_clock_mhz") for gpu in gpus],
        "power, W": [gpu.get("watts") for gpu in gpus],
    }
    curves = [(label, [[_number(one) for one in _list(line)] for line in found]) for label, found in lines.items()]
    curves = [(label, found) for label, found in curves if any(len(line) >= _POINTS for line in found)]
    if len(seconds) < _POINTS or not curves:
        return joined()
    from cmx4trt.report.plots import plot_run

    caption = "The run over time; each GPU has its own line style."
    return parts.drawn(lambda: plot_run(name, seconds, curves), caption, note)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def figure_of_run(result: Mapping[str, Any]) -> str:
    """The metric that MLPerf ranks the scenario by, with its unit; latencies in ms, with the name of the latency."""
    metric = result.get("metric") or {}
    value = metric.get("value")
    if not isinstance(value, (int, float)):
        return _accuracy(result.get("accuracy") or {})
    if metric.get("unit") == "ns":
        return f"{parts.milliseconds(value / 1e9, _DIGITS)} ({str(metric.get('name')).replace('_', ' ')})"
    return f"{rounded(value, _DIGITS)} {metric.get('unit')}"


def what_ran(result: Mapping[str, Any]) -> str:
    """What ran, without the reasons: an engine on a GPU, or its graph in ONNX Runtime."""
    return str(result.get("executed")).split(";")[0]


def latencies_of_run(result: Mapping[str, Any]) -> str:
    """Latency percentiles in milliseconds."""
    latencies = {
        name: value for name, value in (result.get("latency_ns") or {}).items() if isinstance(value, (int, float))
    }
    texts = [f"p{float(name):g} {rounded(value / 1e6, _DIGITS)}" for name, value in latencies.items()]
    return f"{', '.join(texts)} ms" if texts else parts.NONE


def _outcome(result: Mapping[str, Any]) -> Html:
    if result.get("status") != "complete":
        return joined(element("span", f"{result.get('status')}", class_="mark no"), f": {result.get('reason')}")
    if result.get("valid") is None:
        return joined("complete")
    if result["valid"]:
        return element("span", "✓ VALID", class_="mark yes")
    return joined(element("span", "✗ INVALID", class_="mark no"), f": {result.get('reason')}")


def _accuracy(accuracy: Mapping[str, Any]) -> str:
    """The value itself: '76.1 % top-1'."""
    value = accuracy.get("value")
    return f"{value:g} % {accuracy.get('metric')}" if isinstance(value, (int, float)) else parts.NONE


def _judged(accuracy: Mapping[str, Any]) -> str:
    """The value, the number of images, the target, and the verdict."""
    if not accuracy:
        return parts.NONE
    target = accuracy.get("target")
    words = [
        f"{_accuracy(accuracy)} on {accuracy.get('images')} images",
        f"MLPerf requires {target:g} %" if isinstance(target, (int, float)) else "",
        f"verdict {accuracy.get('verdict')}",
        str(accuracy.get("note") or ""),
    ]
    return "; ".join(word for word in words if word).removeprefix(f"{parts.NONE} on ")


def _used(values: Any) -> str:
    return f"{values.get('used')} (not {values.get('mlperf')})" if isinstance(values, dict) else str(values)
