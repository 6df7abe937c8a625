"""The options of a benchmark run, and the LoadGen settings derived from them.

Values are applied in this order, and later ones override earlier ones: LoadGen's built-in mlperf.conf; those of a short run
(unless ``rules`` is 'mlperf'); the user.conf file; explicit options. Otherwise, rates are those measured just before the run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cmx4trt.bench.user_conf import read_user_conf
from cmx4trt.errors import RequestError
from cmx4trt.requests.evaluation_options import ACCURACY, MLPERF, PERFORMANCE, SHORT
from cmx4trt.store.results import Departure

SHORT_SECONDS = 10.0
"""Minimum duration of a short run in seconds. MLPerf requires 600 s (mlperf.conf); ten give a mean within a few percent."""
SHORT_QUERIES = {"Offline": 1, "SingleStream": 64, "MultiStream": 662, "Server": 459}
"""Minimum number of queries of a short run: with fewer, LoadGen's early stopping (99 % confidence) cannot consider a run VALID.
Its percentile is 90 in SingleStream, 99 in MultiStream and Server (loadgen/early_stopping.cc; the tests reproduce these
numbers)."""
SHORT_SAMPLES = 64
"""Samples in memory in a short run (MLPerf: 1024 for ResNet-50, 64 for RetinaNet), rounded up to whole batches."""

OFFLINE_MARGIN = 1.2
"""Offline generates samples for this multiple of the measured rate, on top of LoadGen's own 1.1: a run that ends before its
minimum duration is INVALID, while a longer one merely takes longer."""
SERVER_SHARE = 0.5
"""Server's default target rate as a share of the measured rate: random arrivals need headroom to meet a latency bound."""
LATENCY_SHARE = 0.5
"""LoadGen generates queries for this share of the measured latency; a run that runs out of queries is INVALID."""

MAX_PREPARED = {"Offline": 10**8, "Server": 10**7, "SingleStream": 2 * 10**7, "MultiStream": 16 * 10**6}
"""LoadGen may have to generate this many samples, or more if they fit into memory: it does so before it starts, and needs about
180 bytes per sample, 220 if a query has one sample (peak memory of benchmarks/harness.py). Out of memory kills the process
silently."""
_BYTES_PREPARED = 220
OFFLINE_SLACK = 1.1
GENERATED_TIMES = {"Server": 1, "SingleStream": 2, "MultiStream": 2}
"""LoadGen generates queries for this many times the minimum duration, Offline samples for ``OFFLINE_SLACK`` times
(loadgen/test_settings_internal.cc and loadgen.cc; the tests compare them with its log)."""


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """One run. ``count``: the exact number of samples, in whole queries; with ``duration`` (seconds), both are minimums.
    ``target_qps``: Server's target rate, Offline's expected rate, in samples/s.

    None leaves a value to the rules, to ``user_conf`` or to measurement.
    """

    scenario: str
    mode: str = PERFORMANCE
    rules: str = SHORT
    count: int | None = None
    duration: float | None = None
    target_qps: float | None = None
    user_conf: str | None = None

    def __post_init__(self) -> None:
        """Reject contradictory values. Raises RequestError."""
        if self.rules == MLPERF and (self.count is not None or self.duration is not None):
            raise RequestError("rules=mlperf takes count and duration from mlperf.conf; omit --count and --duration")


@dataclass(frozen=True, slots=True)
class Measured:
    """The rate of a few batches in samples/s over all streams, and the seconds that one query takes."""

    rate: float
    latency: float


def needs_measurement(settings: BenchSettings) -> bool:
    """Whether LoadGen's settings depend on the speed of the session."""
    return settings.mode == PERFORMANCE or settings.scenario == "Server"


@dataclass(frozen=True, slots=True)
class Plan:
    """A run's settings while the speed of the session is unknown: everything given by the rules, user.conf and options.

    ``made``: LoadGen's TestSettings of the run, ``mlperf``: those MLPerf requires; ``user_conf``: values of the file, by key.
    """

    settings: BenchSettings
    made: Any
    mlperf: Any
    user_conf: Mapping[str, str]

    @property
    def samples_per_query(self) -> int:
        """Samples that LoadGen requests at once, if each query waits for the one before; in Offline and Server 1."""
        return int(self.made.multi_stream_samples_per_query) if self.settings.scenario == "MultiStream" else 1

    @property
    def rate_given(self) -> bool:
        """Whether user.conf or an option sets the rate at which samples are sent, or are expected to be answered."""
        if self.settings.scenario in ("Offline", "Server"):
            return self.settings.target_qps is not None or "target_qps" in self.user_conf
        return "target_latency" in self.user_conf


def plan_run(lg: Any, network: str, settings: BenchSettings) -> Plan:
    """What is known about a run before the session has run for the first time. Raises RequestError."""
    made = _mlperf_settings(lg, network, settings)
    # Overdue queries arrive in one call, each timed individually: one call per query is too much for a thread with several GPUs.
    made.server_coalesce_queries = True
    values: dict[str, str] = {}
    if settings.rules == SHORT:
        _shorten(made, settings)
    if settings.user_conf is not None:
        values = read_user_conf(settings.user_conf, network, settings.scenario)  # rejects what LoadGen would ignore
        # 2: on top of the existing values; 1 would load mlperf.conf again, and only once per process.
        if made.FromConfig(os.fsencode(settings.user_conf), network, settings.scenario, 2) != 0:
            raise RequestError(
                f"LoadGen cannot read user.conf {settings.user_conf}; expected lines 'model.scenario.key = number' and a space "
                "after the '#' of a comment"
            )
    _apply_options(made, settings)
    return Plan(settings, made, _mlperf_settings(lg, network, settings), values)


def complete_plan(
    plan: Plan, samples_in_memory: int, available: int, measured: Measured | None, free_bytes: int | None = None
) -> dict[str, Departure]:
    """Set the remaining values of ``plan.made``, and return its deviations from MLPerf's: by name.

    ``available``: number of images; ``free_bytes``: of memory, None if unknown. Raises RequestError for what would crash LoadGen.
    """
    made = plan.made
    made.performance_sample_count_override = samples_in_memory
    if measured is not None and not plan.rate_given:
        _apply_measured(plan, measured, free_bytes)
    if made.performance_issue_same and made.performance_issue_same_index >= samples_in_memory:
        raise RequestError(
            f"performance_issue_same_index in user.conf is {made.performance_issue_same_index}, expected less than the "
            f"{samples_in_memory} samples in memory"
        )
    if made.performance_issue_same and made.performance_issue_unique:
        raise RequestError("user.conf sets performance_issue_same and performance_issue_unique; remove one of them")
    prepared, most = prepared_samples(plan, available), most_prepared(plan.settings.scenario, free_bytes)
    if prepared > most:
        raise RequestError(
            f"LoadGen would generate {prepared} samples before the {plan.settings.scenario} run starts, expected at most {most}: "
            "more would run out of memory; lower count, target_qps or duration (options, or their equivalents in user.conf)"
        )
    return _departures(plan)


def most_prepared(scenario: str, free_bytes: int | None) -> int:
    """How many samples LoadGen may generate: as many as fit into half of the free memory, but at least MAX_PREPARED.

    Ten minutes of Server at 100,000/s are 60 million, 13 GB.
    """
    return max(MAX_PREPARED[scenario], (free_bytes or 0) // 2 // _BYTES_PREPARED)


def samples_in_memory(plan: Plan, batch: int, available: int) -> int:
    """How many samples LoadGen may draw from: user.conf's number, otherwise that of the rules in whole batches (which are then
    fed without a copy); never more than the data set has."""
    if "performance_sample_count_override" in plan.user_conf:
        return min(available, int(plan.made.performance_sample_count_override))
    mlperf = int(plan.mlperf.performance_sample_count_override)
    least = mlperf if plan.settings.rules == MLPERF else SHORT_SAMPLES
    return min(available, -(-least // batch) * batch)


def prepared_samples(plan: Plan, available: int) -> int:
    """How many samples LoadGen generates before it starts, for a data set of ``available``; in Server the expected number."""
    made, scenario = plan.made, plan.settings.scenario
    if plan.settings.mode == ACCURACY:
        return min(available, int(made.accuracy_sample_count_override) or available)
    if made.performance_issue_unique or made.performance_issue_same:
        return int(made.performance_sample_count_override)
    seconds: float = made.min_duration_ms / 1000
    if scenario == "Offline":
        return max(int(made.min_query_count), int(OFFLINE_SLACK * seconds * made.offline_expected_qps))
    queries_per_second: float = {
        "Server": made.server_target_qps,
        "SingleStream": 1e9 / made.single_stream_expected_latency_ns,
        "MultiStream": 1e9 / made.multi_stream_expected_latency_ns,
    }[scenario]
    queries = round(GENERATED_TIMES[scenario] * seconds * queries_per_second)
    return max(int(made.min_query_count), queries) * plan.samples_per_query


def _mlperf_settings(lg: Any, network: str, settings: BenchSettings) -> Any:
    made = lg.TestSettings()
    made.FromConfig("", network, settings.scenario, 0)  # 0: the mlperf.conf inside the library, whatever the path
    made.scenario = getattr(lg.TestScenario, settings.scenario)
    made.mode = lg.TestMode.AccuracyOnly if settings.mode == ACCURACY else lg.TestMode.PerformanceOnly
    return made


def _shorten(made: Any, settings: BenchSettings) -> None:
    made.min_duration_ms = int(SHORT_SECONDS * 1000)
    made.min_query_count = SHORT_QUERIES[settings.scenario]


def _apply_options(made: Any, settings: BenchSettings) -> None:
    if settings.target_qps is not None:
        made.offline_expected_qps = made.server_target_qps = settings.target_qps
    if settings.count is not None:
        one_by_one = settings.scenario in ("SingleStream", "MultiStream")
        per_query = made.multi_stream_samples_per_query if settings.scenario == "MultiStream" else 1
        made.min_query_count = -(-settings.count // per_query)
        made.max_query_count = made.min_query_count if one_by_one else 0  # the others generate exactly this many
        made.min_duration_ms = 0
    if settings.duration is not None:
        made.min_duration_ms = int(settings.duration * 1000)
        made.max_query_count = 0


def _apply_measured(plan: Plan, measured: Measured, free_bytes: int | None) -> None:
    made, scenario = plan.made, plan.settings.scenario
    seconds = max(1.0, made.min_duration_ms / 1000)
    most_per_second = most_prepared(scenario, free_bytes) / seconds / GENERATED_TIMES.get(scenario, OFFLINE_SLACK)
    if scenario == "Offline":
        made.offline_expected_qps = min(measured.rate * OFFLINE_MARGIN, most_per_second)
    elif scenario == "Server":
        share = SERVER_SHARE if plan.settings.mode == PERFORMANCE else 1.0
        made.server_target_qps = min(measured.rate * share, most_per_second)
    else:
        least_latency = plan.samples_per_query / most_per_second
        latency_ns = max(measured.latency * LATENCY_SHARE, least_latency) * 1e9
        if scenario == "SingleStream":
            made.single_stream_expected_latency_ns = latency_ns
        else:
            made.multi_stream_expected_latency_ns = latency_ns


_OF_SCENARIO = {
    "Offline": "offline_",
    "Server": "server_",
    "SingleStream": "single_stream_",
    "MultiStream": "multi_stream_",
}
"""Name prefixes of settings that only one scenario has."""
_FREE = (
    *("offline_expected_qps", "server_target_qps"),
    *("single_stream_expected_latency_ns", "multi_stream_expected_latency_ns"),
    "server_coalesce_queries",  # measured per sample nevertheless (mlcommons/inference, pull request 618)
)
"""Settings that MLPerf leaves to the submitter."""
_OF_PERFORMANCE = (
    *("min_duration_ms", "max_duration_ms", "min_query_count", "max_query_count", "performance_sample_count_override"),
    *("server_target_latency_ns", "server_target_latency_percentile"),
    *("server_max_async_queries", "single_stream_target_latency_percentile", "multi_stream_target_latency_percentile"),
)
"""Settings that do not affect answers: in accuracy mode every sample is requested once regardless of them."""


def _departures(plan: Plan) -> dict[str, Departure]:
    """Every setting of this scenario that differs from MLPerf's, except for those that may."""
    departures: dict[str, Departure] = {}
    others = tuple(prefix for name, prefix in _OF_SCENARIO.items() if name != plan.settings.scenario)
    ignored = (*_FREE, *(_OF_PERFORMANCE if plan.settings.mode == ACCURACY else ()))
    for name in dir(plan.mlperf):
        wanted, value = getattr(plan.mlperf, name), getattr(plan.made, name)
        if name.startswith(("_", *others)) or name in ignored or callable(wanted) or value == wanted:
            continue
        if name != "performance_sample_count_override" or value < wanted:  # more is allowed (according to mlperf.conf)
            departures[name] = Departure(value, wanted)
    return departures
