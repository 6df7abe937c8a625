"""What a benchmark run is asked to do, and LoadGen's settings made of it.

Values are taken in this order, the later ones win: LoadGen's built-in mlperf.conf; the short run's (unless ``rules`` is
'mlperf'); what was measured just before the run; the user.conf file; explicit options.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cmx4trt.bench.user_conf import read_user_conf
from cmx4trt.errors import RequestError

PERFORMANCE, ACCURACY = "performance", "accuracy"
MODES = (PERFORMANCE, ACCURACY)
RULES = ("short", "mlperf")

SHORT_SECONDS = 10.0
"""Least duration of a short run. MLPerf asks for 600 s (mlperf.conf); ten are enough to see a mean within some percent."""
SHORT_QUERIES = {"Offline": 1, "SingleStream": 64, "MultiStream": 662, "Server": 459}
"""Fewest queries of a short run: with fewer LoadGen's early stopping (99 % confidence) cannot call a run VALID: its percentile is
90 in SingleStream, 99 in MultiStream and Server (loadgen/early_stopping.cc; the tests find these numbers again)."""
SHORT_SAMPLES = 64
"""Samples in memory in a short run (MLPerf: 1024 for ResNet-50, 64 for RetinaNet), rounded up to whole batches."""

OFFLINE_MARGIN = 1.2
"""Offline generates samples for this multiple of the measured rate, on top of LoadGen's own 1.1: a run that ends before its least
duration is INVALID, a longer one only takes longer."""
SERVER_SHARE = 0.5
"""Server's load, unless given, as a share of the measured rate: random arrivals need room to keep a latency bound."""
LATENCY_SHARE = 0.5
"""LoadGen prepares queries for this share of the measured latency; a run that runs out of queries is INVALID."""

MAX_PREPARED = {"Offline": 10**8, "Server": 10**7, "SingleStream": 10**7, "MultiStream": 10**6}
"""Most samples (Offline) or queries that a measured rate makes LoadGen prepare: it does so before it starts, and needs about 180
and 220 bytes for each (peak memory of benchmarks/harness.py). Ten minutes of a GPU stay below; a session that does nothing
would fill the memory."""


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """One run. ``count``: samples, exactly so many; ``duration``: least seconds; ``target_qps``: Server's load, Offline's guess.

    None leaves a value to the rules, to ``user_conf`` or to measurement.
    """

    scenario: str
    mode: str = PERFORMANCE
    rules: str = "short"
    count: int | None = None
    duration: float | None = None
    target_qps: float | None = None
    user_conf: str | None = None

    def __post_init__(self) -> None:
        """Refuse what contradicts itself. Raises RequestError."""
        if self.rules == "mlperf" and (self.count is not None or self.duration is not None):
            raise RequestError(
                "rules=mlperf takes count and duration from mlperf.conf; leave --count and --duration out"
            )


@dataclass(frozen=True, slots=True)
class Measured:
    """A few batches' rate in samples/s over all streams, and the seconds that one query takes."""

    rate: float
    latency: float


def needs_measurement(settings: BenchSettings) -> bool:
    """Whether LoadGen's settings depend on the speed of the session."""
    return settings.mode == PERFORMANCE or settings.scenario == "Server"


def loadgen_settings(
    lg: Any, network: str, settings: BenchSettings, samples_in_memory: int, measured: Measured | None
) -> tuple[Any, dict[str, dict[str, Any]]]:
    """LoadGen's TestSettings, and where they depart from MLPerf's: name -> {'used', 'mlperf'}. Raises RequestError."""
    mlperf = _mlperf_settings(lg, network, settings)
    used = _mlperf_settings(lg, network, settings)
    if settings.rules == "short":
        _shorten(used, settings)
    used.performance_sample_count_override = samples_in_memory
    if measured is not None:
        _apply_measured(used, settings, measured)
    if settings.user_conf is not None:
        read_user_conf(settings.user_conf, network, settings.scenario)  # refuses what LoadGen would ignore
        # 2: on top of what is there; 1 would load mlperf.conf again and only once in a process.
        if used.FromConfig(settings.user_conf, network, settings.scenario, 2) != 0:
            raise RequestError(
                f"LoadGen cannot read user.conf {settings.user_conf}; see mlperf_log_detail.txt for its reason"
            )
    _apply_options(used, settings)
    return used, _departures(mlperf, used, settings)


def samples_in_memory(lg: Any, network: str, settings: BenchSettings, batch: int, available: int) -> int:
    """How many samples LoadGen may draw from: the rules' number in whole batches (which are then fed without a copy)."""
    least = SHORT_SAMPLES
    if settings.rules == "mlperf":
        least = _mlperf_settings(lg, network, settings).performance_sample_count_override
    return min(available, -(-least // batch) * batch)


def _mlperf_settings(lg: Any, network: str, settings: BenchSettings) -> Any:
    made = lg.TestSettings()
    made.FromConfig("", network, settings.scenario, 0)  # 0: the mlperf.conf inside the library, whatever the path
    made.scenario = getattr(lg.TestScenario, settings.scenario)
    made.mode = lg.TestMode.AccuracyOnly if settings.mode == ACCURACY else lg.TestMode.PerformanceOnly
    return made


def _shorten(made: Any, settings: BenchSettings) -> None:
    made.min_duration_ms = int(SHORT_SECONDS * 1000)
    made.min_query_count = SHORT_QUERIES[settings.scenario]


def _apply_measured(made: Any, settings: BenchSettings, measured: Measured) -> None:
    seconds = max(1.0, made.min_duration_ms / 1000 if settings.duration is None else settings.duration)
    most_per_second = MAX_PREPARED[settings.scenario] / seconds
    if settings.scenario == "Offline":
        made.offline_expected_qps = min(measured.rate * OFFLINE_MARGIN, most_per_second)
    elif settings.scenario == "Server":
        share = SERVER_SHARE if settings.mode == PERFORMANCE else 1.0
        made.server_target_qps = min(measured.rate * share, most_per_second)
    else:
        latency_ns = int(max(measured.latency * LATENCY_SHARE, 1 / most_per_second) * 1e9)
        if settings.scenario == "SingleStream":
            made.single_stream_expected_latency_ns = latency_ns
        else:
            made.multi_stream_expected_latency_ns = latency_ns


def _apply_options(made: Any, settings: BenchSettings) -> None:
    if settings.target_qps is not None:
        made.offline_expected_qps = made.server_target_qps = settings.target_qps
    if settings.count is not None:
        per_query = made.multi_stream_samples_per_query if settings.scenario == "MultiStream" else 1
        made.min_query_count = max(1, -(-settings.count // per_query))
        made.min_duration_ms = 0
        made.offline_expected_qps = settings.target_qps or 1.0
        if settings.scenario in ("SingleStream", "MultiStream"):
            made.max_query_count = made.min_query_count
    if settings.duration is not None:
        made.min_duration_ms = int(settings.duration * 1000)
        made.max_query_count = 0


_COMPARED = (
    *(
        "min_duration_ms",
        "min_query_count",
        "max_query_count",
        "performance_sample_count_override",
        "server_target_latency_ns",
    ),
    *("qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed", "multi_stream_samples_per_query"),
)
"""What MLPerf fixes; fewer samples in memory, shorter runs or other seeds are no submission. Expected rates are the user's."""


def _departures(mlperf: Any, used: Any, settings: BenchSettings) -> dict[str, dict[str, Any]]:
    """Settings that are not MLPerf's; more samples in memory than asked for are allowed (mlperf.conf says so)."""
    departures: dict[str, dict[str, Any]] = {}
    if settings.mode == ACCURACY:
        return departures
    for name in _COMPARED:
        wanted, value = getattr(mlperf, name), getattr(used, name)
        larger_is_fine = name == "performance_sample_count_override" and value > wanted
        if value != wanted and not larger_is_fine:
            departures[name] = {"used": value, "mlperf": wanted}
    return departures
