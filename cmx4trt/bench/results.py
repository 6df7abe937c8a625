"""LoadGen's logs -> one result, as JSON and as text."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cmx4trt.base.damage import MALFORMED, parse_json, reason
from cmx4trt.base.files import encode_json, open_text, write_atomic
from cmx4trt.base.quantities import rounded
from cmx4trt.bench.memory import megabytes
from cmx4trt.errors import OutputError
from cmx4trt.requests.evaluation_options import ACCURACY, PERFORMANCE

SCHEMA = "cmx4trt-bench/1"
RESULT_NAME, TEXT_NAME = "cmx4trt_result.json", "cmx4trt_result.txt"
"""Our two files next to LoadGen's logs."""
LOG_SETTING = "--log_dir"
"""The setting that moves them elsewhere."""
COMPLETE, FAILED, INTERRUPTED = "complete", "failed", "interrupted"
"""Statuses of a run; the logs of the last two are partial."""

_LINE = ":::MLLOG "
_END = {PERFORMANCE: "result_validity", ACCURACY: "power_end"}
"""The last event that LoadGen logs; without it the detail log is truncated."""
_THROUGHPUTS = {
    "Offline": ("result_samples_per_second", "samples_per_second"),
    "Server": ("result_completed_samples_per_sec", "completed_samples_per_second"),
}
_LATENCIES = {
    "SingleStream": ("early_stopping_latency_ss", "percentile_latency_ns", "latency"),
    "MultiStream": ("early_stopping_latency_ms", "percentile_per_query_latency_ns", "query_latency"),
}
"""The metrics that MLPerf ranks a scenario by, as its submission checker reads them (RESULT_FIELD_NEW): keys in the detail log,
and our names. For latencies the metric is LoadGen's early-stopping estimate, an upper bound of the percentile with 99 %
confidence."""
PERCENTILES = ("50.00", "90.00", "95.00", "97.00", "99.00", "99.90")


@dataclass(frozen=True, slots=True)
class BenchResult:
    """One run. ``executed`` begins with what really ran; ``valid`` is LoadGen's verdict, None if there is none (accuracy mode).

    ``metric``: name, value, unit. ``latency_ns``: percentiles (of queries in MultiStream). ``departures``: settings that differ
    from MLPerf's. ``memory``: host memory of the samples. ``batch_times_ms``: Server's table, by batch size. ``gpus``,
    ``timeline``, ``notes``: see ``watch``. ``accuracy`` is empty unless it was measured.
    """

    executed: str
    status: str
    scenario: str
    mode: str
    folder: str
    subject: Mapping[str, Any] = field(default_factory=dict)
    data: str = ""
    valid: bool | None = None
    reason: str = ""
    metric: Mapping[str, Any] = field(default_factory=dict)
    latency_ns: Mapping[str, int] = field(default_factory=dict)
    queries: int = 0
    samples_per_query: int = 0
    departures: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    loadgen: Mapping[str, Any] = field(default_factory=dict)
    memory: Mapping[str, Any] = field(default_factory=dict)
    batch_times_ms: Mapping[str, float] = field(default_factory=dict)
    gpus: Sequence[Mapping[str, Any]] = ()
    timeline: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    accuracy: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The result as indented JSON."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=2, ensure_ascii=False) + "\n"

    def rows(self) -> list[tuple[str, str]]:
        """The result for people; the first row says what ran."""
        rows = [("executed", self.executed)]
        rows += [(name, str(value)) for name, value in self.subject.items()]
        rows += [("scenario", self.scenario), ("mode", self.mode), ("data", self.data)]
        if self.status != COMPLETE:
            rows.append(("status", f"{self.status}: {self.reason} (the logs are partial)"))
        elif self.mode != ACCURACY:
            rows.append(("result", "VALID" if self.valid else f"INVALID: {self.reason}"))
        if self.metric:
            rows.append((str(self.metric["name"]), f"{rounded(self.metric['value'], 6)} {self.metric['unit']}"))
        if self.latency_ns:
            shown = (f"p{float(name):g} {rounded(value / 1e6, 4)}" for name, value in self.latency_ns.items())
            rows.append(("latency (ms)", ", ".join(shown)))
        if len(self.gpus) > 1:
            shares = (f"GPU {gpu['index']} {gpu['samples']} ({100 * gpu['share']:.1f} %)" for gpu in self.gpus)
            rows.append(("samples by GPU", ", ".join(shares)))
        rows += [("note", note) for note in self.notes]
        rows += [(name, str(value)) for name, value in self.accuracy.items()]
        if self.departures:
            shown = (f"{name} {values['used']} (not {values['mlperf']})" for name, values in self.departures.items())
            rows.append(("deviations from MLPerf", "; ".join(shown)))
        if self.memory:
            way = ", page-locked, fetched by the GPU" if self.memory["fetched_by_the_gpu"] else ""
            rows.append(("samples in memory", f"{self.memory['samples']} ({megabytes(self.memory['bytes'])}{way})"))
        rows.append(("logs", self.folder))
        return rows

    def text(self) -> str:
        """``rows`` as lines."""
        return "".join(f"{name}: {value}\n" for name, value in self.rows())

    def exports(self) -> dict[str, str]:
        """The values for workflows, by upper-case name."""
        exports = {
            "STATUS": self.status,
            "SCENARIO": self.scenario,
            "MODE": self.mode,
            "LOG_PATH": self.folder,
            "FILE_WITH_PATH": os.path.join(self.folder, RESULT_NAME),
        }
        if self.valid is not None:
            exports["VALID"] = "yes" if self.valid else "no"
        if self.metric:
            exports["METRIC"], exports["VALUE"] = str(self.metric["name"]), repr(self.metric["value"])
        exports.update({f"P{float(name):g}_LATENCY_NS": str(value) for name, value in self.latency_ns.items()})
        exports.update(
            {f"ACCURACY_{name.upper()}": str(value) for name, value in self.accuracy.items() if name != "note"}
        )
        return {name.replace(".", "_"): value for name, value in exports.items()}

    def save(self) -> None:
        """Write both files beside the logs. Raises OutputError."""
        text = self.text().encode("utf-8", "surrogateescape")
        for name, data in ((RESULT_NAME, encode_json(self.to_json())), (TEXT_NAME, text)):
            write_atomic(os.path.join(self.folder, name), data, LOG_SETTING)


@dataclass(frozen=True, slots=True)
class LogFacts:
    """The content of the detail log: key -> last value; the messages of its errors and warnings."""

    values: Mapping[str, Any]
    errors: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def reason(self) -> str:
        """Why the run is not valid, according to LoadGen; empty for a valid one."""
        reasons = [str(self.values.get("result_invalid_reason") or "")]
        if self.values.get("early_stopping_met") is False:
            reasons.append(str(self.values.get("early_stopping_result") or ""))
        words = " ".join(" ".join(reasons).replace("*", " ").split())
        return words or ("; ".join(self.errors) if self.values.get("result_validity") != "VALID" else "")


def read_detail_log(folder: str, mode: str) -> LogFacts:
    """The facts in the mlperf_log_detail.txt of a finished run. Raises OutputError if it is incomplete."""
    path = os.path.join(folder, "mlperf_log_detail.txt")
    values: dict[str, Any] = {}
    messages: dict[str, list[str]] = {"is_error": [], "is_warning": []}
    try:
        with open_text(path, errors="replace") as stream:
            for line in stream:
                if not line.startswith(_LINE):
                    continue
                entry = parse_json(line[len(_LINE) :])
                values[entry["key"]] = entry["value"]
                for kind, texts in messages.items():
                    if entry["metadata"].get(kind):
                        texts.append(f"{entry['key']}: {entry['value']}")
    except (OSError, *MALFORMED) as error:
        raise OutputError(
            f"LoadGen's log {path} cannot be read ({reason(error)}); free disk space or give another {LOG_SETTING}"
        ) from error
    if _END[mode] not in values:
        raise OutputError(
            f"LoadGen's log {path} ends before '{_END[mode]}': it is incomplete; free disk space or give another {LOG_SETTING}"
        )
    return LogFacts(values, tuple(messages["is_error"]), tuple(messages["is_warning"]))


def performance_of_log(facts: LogFacts, scenario: str) -> dict[str, Any]:
    """The fields of BenchResult determined by the log of a finished performance run."""
    values = facts.values
    latency = "percentile_per_query_latency_ns" if scenario == "MultiStream" else "percentile_latency_ns"
    keys = {f"result_{p}_{latency}": p for p in PERCENTILES}
    valid = values.get("result_validity") == "VALID"
    return {
        "valid": valid,
        "reason": "" if valid else facts.reason,
        "metric": _metric_of_log(values, scenario),
        "latency_ns": {p: values[key] for key, p in keys.items() if key in values},
        "queries": int(values.get("result_query_count", 0)),
        "samples_per_query": int(values.get("generated_samples_per_query", 0)),
    }


def _metric_of_log(values: Mapping[str, Any], scenario: str) -> dict[str, Any]:
    """The scenario's metric: name, value, unit. For a run too short for an early-stopping estimate, the plain percentile, under
    its own name; nothing if LoadGen logs no such percentile."""
    if scenario in _THROUGHPUTS:
        key, name = _THROUGHPUTS[scenario]
        return {"name": name, "value": values[key], "unit": "samples/s"} if key in values else {}
    key, plain, words = _LATENCIES[scenario]
    percentile = 100 * float(values.get("effective_target_latency_percentile", 0))
    name = f"p{percentile:.6g}_{words}"
    if values.get("early_stopping_met") and key in values:  # LoadGen logs 0 if it is not met
        return {"name": f"early_stopping_{name}", "value": values[key], "unit": "ns"}
    key = f"result_{percentile:.2f}_{plain}"
    return {"name": name, "value": values[key], "unit": "ns"} if key in values else {}


def settings_of_log(facts: LogFacts) -> dict[str, Any]:
    """The settings that LoadGen reports to have used."""
    prefix = "effective_"
    return {key.removeprefix(prefix): value for key, value in facts.values.items() if key.startswith(prefix)}
