"""LoadGen's logs -> the fields of a result; and the result's two files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cmx4trt.base.damage import MALFORMED, parse_json, reason
from cmx4trt.base.files import encode_json, open_text, write_atomic
from cmx4trt.bench.text import text_of_result
from cmx4trt.errors import OutputError
from cmx4trt.requests.evaluation_options import ACCURACY, PERFORMANCE
from cmx4trt.store.results import RESULT_NAME, TEXT_NAME, BenchResult, LoadGenFacts, Metric

LOG_SETTING = "--log_dir"
"""The setting that moves them elsewhere."""
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


def _metric_of_log(values: Mapping[str, Any], scenario: str) -> Metric | None:
    """The scenario's metric: name, value, unit. For a run too short for an early-stopping estimate, the plain percentile, under
    its own name; nothing if LoadGen logs no such percentile."""
    if scenario in _THROUGHPUTS:
        key, name = _THROUGHPUTS[scenario]
        return Metric(name, values[key], "samples/s") if key in values else None
    key, plain, words = _LATENCIES[scenario]
    percentile = 100 * float(values.get("effective_target_latency_percentile", 0))
    name = f"p{percentile:.6g}_{words}"
    if values.get("early_stopping_met") and key in values:  # LoadGen logs 0 if it is not met
        return Metric(f"early_stopping_{name}", values[key], "ns")
    key = f"result_{percentile:.2f}_{plain}"
    return Metric(name, values[key], "ns") if key in values else None


def loadgen_of_log(facts: LogFacts) -> LoadGenFacts:
    """LoadGen's own information."""
    return LoadGenFacts(str(facts.values.get("loadgen_version", "")), facts.errors, len(facts.warnings))


def save_result(result: BenchResult) -> None:
    """Write both files beside the logs. Raises OutputError."""
    text = text_of_result(result).encode("utf-8", "surrogateescape")
    for name, data in ((RESULT_NAME, encode_json(result.to_json())), (TEXT_NAME, text)):
        write_atomic(os.path.join(result.folder, name), data, LOG_SETTING)


def settings_of_log(facts: LogFacts) -> dict[str, Any]:
    """The settings that LoadGen reports to have used."""
    prefix = "effective_"
    return {key.removeprefix(prefix): value for key, value in facts.values.items() if key.startswith(prefix)}
