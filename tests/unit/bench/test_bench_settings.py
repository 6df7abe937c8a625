"""LoadGen's settings: whose value wins, what departs from MLPerf's, and what would fill the memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cmx4trt.bench.results import read_detail_log
from cmx4trt.bench.settings import (
    MAX_PREPARED,
    SHORT_QUERIES,
    BenchSettings,
    Measured,
    Plan,
    complete_plan,
    plan_run,
    prepared_samples,
    samples_in_memory,
)
from cmx4trt.errors import RequestError
from cmx4trt.requests.options import SCENARIOS
from cmx4trt.store.results import Departure

lg = pytest.importorskip("mlperf_loadgen", reason="LoadGen is not installed (pip install 'cmx4trt[bench]')")
MEASURED = Measured(rate=1000.0, latency=0.01)


def plan_of(scenario: str, network: str = "resnet50", **values: Any) -> Plan:
    return plan_run(lg, network, BenchSettings(scenario, **values))


def settings_of(scenario: str, network: str = "resnet50", **values: Any) -> tuple[Any, dict[str, Any]]:
    plan = plan_of(scenario, network, **values)
    return plan.made, complete_plan(plan, 1024, 1024, MEASURED)


@pytest.fixture
def user_conf(tmp_path: Path) -> Callable[[str], str]:
    """Writes a user.conf of these lines and returns its path."""

    def write(text: str) -> str:
        path = tmp_path / "user.conf"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize(("network", "bound_ms"), [("resnet50", 15), ("retinanet", 100)])
def test_mlperfs_rules_are_those_of_mlperf_conf(scenario: str, network: str, bound_ms: int) -> None:
    made, departures = settings_of(scenario, network, rules="mlperf")
    assert made.min_duration_ms == 600_000
    assert made.min_query_count == {"Offline": 24576, "MultiStream": 662}.get(scenario, 100)
    assert made.server_target_latency_ns == bound_ms * 10**6
    assert made.qsl_rng_seed != 0
    assert departures == {}


@pytest.mark.parametrize(("line", "used"), [("", True), ("resnet50.Server.coalesce_queries = 0\n", False)])
def test_overdue_queries_of_server_come_in_one_call_unless_user_conf_says_no(
    user_conf: Any, line: str, used: bool
) -> None:
    made, departures = settings_of("Server", rules="mlperf", user_conf=user_conf(line) if line else None)
    assert (made.server_coalesce_queries, departures) == (used, {})


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_short_run_names_every_departure(scenario: str) -> None:
    made, departures = settings_of(scenario)
    assert made.min_duration_ms == 10_000
    assert departures["min_duration_ms"] == Departure(10_000, 600_000)
    assert made.min_query_count == SHORT_QUERIES[scenario]


def test_measured_rates_set_the_load() -> None:
    assert settings_of("Offline")[0].offline_expected_qps == pytest.approx(1200)
    assert settings_of("Server")[0].server_target_qps == pytest.approx(500)
    assert settings_of("SingleStream")[0].single_stream_expected_latency_ns == 5_000_000
    assert settings_of("MultiStream")[0].multi_stream_expected_latency_ns == 5_000_000


@pytest.mark.parametrize(
    ("scenario", "queries"), [("Offline", 80), ("Server", 80), ("SingleStream", 80), ("MultiStream", 10)]
)
def test_a_count_is_in_samples(scenario: str, queries: int) -> None:
    made, _ = settings_of(scenario, count=80)
    assert made.min_query_count == queries
    assert made.min_duration_ms == 0


def test_a_count_with_a_duration_is_the_least_of_both() -> None:
    for scenario in SCENARIOS:
        made, _ = settings_of(scenario, count=80, duration=2.0)
        assert (made.min_duration_ms, made.max_query_count) == (2000, 0)
    assert settings_of("Offline", count=80, duration=2.0)[0].offline_expected_qps == pytest.approx(1200)


def test_user_conf_wins_over_the_short_run_and_explicit_options_over_it(user_conf: Any) -> None:
    path = user_conf(
        "# mine\n*.Offline.min_duration = 2000\nresnet50.*.min_query_count = 77\nretinanet.*.min_query_count = 5\n"
    )
    made, _ = settings_of("Offline", user_conf=path)
    assert (made.min_duration_ms, made.min_query_count) == (2000, 77)
    made, _ = settings_of("Offline", user_conf=path, duration=3.5)
    assert (made.min_duration_ms, made.min_query_count) == (3500, 77)
    made, _ = settings_of("Server", user_conf=path, target_qps=12.5)
    assert made.server_target_qps == 12.5
    assert made.min_duration_ms == 10_000  # the line is for Offline


@pytest.mark.parametrize(
    ("scenario", "line", "name", "value"),
    [
        ("Server", "target_qps = 321.5", "server_target_qps", 321.5),
        ("Offline", "target_qps = 321.5", "offline_expected_qps", 321.5),
        ("SingleStream", "target_latency = 0.5", "single_stream_expected_latency_ns", 500_000),
        ("MultiStream", "target_latency = 3", "multi_stream_expected_latency_ns", 3_000_000),
    ],
)
def test_user_conf_sets_the_rate_instead_of_the_measurement(
    user_conf: Any, scenario: str, line: str, name: str, value: float
) -> None:
    made, departures = settings_of(scenario, rules="mlperf", user_conf=user_conf(f"*.*.{line}\n"))
    assert getattr(made, name) == value
    assert departures == {}  # a submitter's own choice


def test_mlperfs_length_at_a_gpus_rate_is_prepared_where_memory_holds_it() -> None:
    """600 s at 88,000 queries/s are 53 million, 11.6 GB."""
    plan = plan_of("Server", rules="mlperf", target_qps=88000.0)
    made, departures = plan.made, complete_plan(plan, 1024, 1024, MEASURED, 64 << 30)
    assert (made.server_target_qps, made.min_duration_ms, departures) == (88000.0, 600_000, {})
    with pytest.raises(RequestError, match=r"LoadGen would generate 52800000 samples .* expected at most 39045157"):
        complete_plan(plan, 1024, 1024, MEASURED, 16 << 30)


def test_the_measured_rate_is_for_the_duration_of_user_conf(user_conf: Any) -> None:
    """A session that answers at once: what is prepared for a longer run must not be more than for a shorter one."""
    fast = Measured(rate=1e9, latency=1e-9)
    for scenario in SCENARIOS:
        plan = plan_of(scenario, user_conf=user_conf("*.*.min_duration = 900000\n"))
        complete_plan(plan, 64, 64, fast)
        assert prepared_samples(plan, 64) == pytest.approx(MAX_PREPARED[scenario], rel=1e-3)


def test_eight_gpus_get_as_many_samples_as_ten_minutes_take() -> None:
    """800,000/s for 600 s are 480 million and more, which 512 GB of memory hold."""
    plan = plan_of("Offline", rules="mlperf")
    complete_plan(plan, 1024, 1024, Measured(rate=800_000.0, latency=0.01), 512 << 30)
    assert plan.made.offline_expected_qps == pytest.approx(1.2 * 800_000)


@pytest.mark.parametrize(
    ("scenario", "line", "name", "used"),
    [
        ("Server", "target_latency = 30", "server_target_latency_ns", 30_000_000),
        ("Server", "target_latency_percentile = 50", "server_target_latency_percentile", 0.5),
        ("SingleStream", "target_latency_percentile = 50", "single_stream_target_latency_percentile", 0.5),
        ("MultiStream", "target_latency_percentile = 50", "multi_stream_target_latency_percentile", 0.5),
        ("MultiStream", "samples_per_query = 32", "multi_stream_samples_per_query", 32),
        ("Server", "max_async_queries = 4", "server_max_async_queries", 4),
        ("Offline", "performance_issue_unique = 1", "performance_issue_unique", True),
        ("Offline", "performance_issue_same = 1", "performance_issue_same", True),
        ("Offline", "performance_issue_same_index = 3", "performance_issue_same_index", 3),
        ("Offline", "sample_concatenate_permutation = 1", "sample_concatenate_permutation", True),
        ("Offline", "max_duration = 700000", "max_duration_ms", 700_000),
        ("Offline", "accuracy_log_sampling_target = 9", "accuracy_log_sampling_target", 9),
        ("Offline", "performance_sample_count_override = 100", "performance_sample_count_override", 100),
    ],
)
def test_every_departure_is_listed(user_conf: Any, scenario: str, line: str, name: str, used: Any) -> None:
    plan = plan_of(scenario, rules="mlperf", user_conf=user_conf(f"*.*.{line}\n"))
    departures = complete_plan(plan, samples_in_memory(plan, 8, 50000), 50000, MEASURED)
    assert departures == {name: Departure(used, getattr(plan.mlperf, name))}


def test_in_accuracy_mode_what_changes_answers_departs(user_conf: Any) -> None:
    path = user_conf("*.*.accuracy_sample_count_override = 3\n*.*.min_duration = 5\n*.*.max_query_count = 1\n")
    plan = plan_of("Offline", mode="accuracy", user_conf=path)
    assert complete_plan(plan, 64, 50000, None) == {"accuracy_sample_count_override": Departure(3, 0)}


def test_settings_of_speed_change_no_answer(user_conf: Any, run_echo: Any, echo: Any) -> None:
    path = user_conf(
        "*.*.min_duration = 1\n*.*.max_duration = 1\n*.*.min_query_count = 2\n*.*.max_query_count = 3\n"
        "*.*.target_latency = 1\n*.*.target_latency_percentile = 50\n*.*.performance_sample_count_override = 7\n"
        "*.*.coalesce_queries = 1\n*.*.max_async_queries = 1000\n"
    )
    for scenario in SCENARIOS:
        session = echo()
        result = run_echo(session, 50, scenario=scenario, mode="accuracy", user_conf=path, target_qps=5000.0)
        assert result.departures == {}
        answers = (Path(result.folder) / "mlperf_log_accuracy.json").read_text()
        assert all(f'"qsl_idx" : {index},' in answers for index in range(50)), scenario


def test_a_user_conf_may_have_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), b"\xff.conf")
    with open(path, "wb") as stream:
        stream.write(b"*.*.min_query_count = 77\n")
    assert plan_of("Offline", user_conf=os.fsdecode(path)).made.min_query_count == 77


def test_what_only_loadgen_refuses_is_one_sentence(user_conf: Any) -> None:
    with pytest.raises(RequestError, match=r"LoadGen cannot read user\.conf .*a space after the '#'"):
        plan_of("Offline", user_conf=user_conf("#a comment\n"))


@pytest.mark.parametrize(
    ("batch", "rules", "expected"), [(1, "short", 64), (48, "short", 96), (256, "mlperf", 1024), (1000, "mlperf", 2000)]
)
def test_samples_in_memory_are_whole_batches(batch: int, rules: str, expected: int) -> None:
    plan = plan_of("Offline", rules=rules)
    assert samples_in_memory(plan, batch, 50000) == expected
    assert samples_in_memory(plan, batch, 10) == 10


def test_samples_in_memory_are_what_user_conf_says_and_the_result_too(user_conf: Any) -> None:
    plan = plan_of("Offline", user_conf=user_conf("*.*.performance_sample_count_override = 1024\n"))
    assert samples_in_memory(plan, 48, 50000) == 1024
    held = samples_in_memory(plan, 48, 64)
    assert held == 64
    assert complete_plan(plan, held, 64, None)["performance_sample_count_override"] == Departure(64, 1024)
    assert plan.made.performance_sample_count_override == 64


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize(
    "options",
    [
        {"count": 10**9},
        {"count": 10**9, "mode": "accuracy"},
        {"duration": 600.0, "target_qps": 1e9},
        {"conf": "*.*.min_query_count = 1000000000"},
        {"conf": "*.*.min_duration = 604800000\n*.*.target_qps = 100000\n*.*.target_latency = 1\n"},
    ],
    ids=["count", "accuracy", "rate and duration", "queries of user.conf", "rate and duration of user.conf"],
)
def test_what_would_fill_the_memory_is_refused(user_conf: Any, scenario: str, options: dict[str, Any]) -> None:
    options = dict(options)
    if "conf" in options:
        options["user_conf"] = user_conf(options.pop("conf"))
    available = options.pop("count") if options.get("mode") == "accuracy" else 64
    plan = plan_of(scenario, **options)
    streams = scenario in ("SingleStream", "MultiStream")
    if streams and "target_qps" in options:  # which says nothing there
        complete_plan(plan, 64, available, MEASURED)
        return
    with pytest.raises(RequestError, match=r"LoadGen would generate \d+ samples .* expected at most .* lower count"):
        complete_plan(plan, 64, available, MEASURED)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize(
    "lines",
    [
        "*.*.min_duration = 40\n*.*.target_qps = 5000\n*.*.target_latency = 1\n*.*.min_query_count = 1\n",
        "*.*.min_duration = 0\n*.*.min_query_count = 90\n",
        "*.*.performance_issue_unique = 1\n*.*.performance_sample_count_override = 48\n",
    ],
    ids=["by time", "by queries", "each once"],
)
def test_what_loadgen_prepares_is_known_before(
    user_conf: Any, run_echo: Any, echo: Any, scenario: str, lines: str
) -> None:
    path = user_conf(lines)
    result = run_echo(echo(), scenario=scenario, user_conf=path)
    values = read_detail_log(result.folder, "performance").values
    generated = values["generated_query_count"] * values["generated_samples_per_query"]
    plan = plan_of(scenario, user_conf=path)
    complete_plan(plan, samples_in_memory(plan, 8, 100), 100, MEASURED)
    tolerance = (
        75 if scenario == "Server" else plan.samples_per_query
    )  # five sigma of 200 random arrivals; the last query
    assert generated == pytest.approx(prepared_samples(plan, 100), abs=tolerance)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("*.*.performance_issue_same = 1\n*.*.performance_issue_same_index = 64\n", "is 64, expected less than the 64"),
        ("*.*.performance_issue_same = 1\n*.*.performance_issue_unique = 1\n", "remove one of them"),
    ],
)
def test_what_loadgen_would_crash_on_is_refused(user_conf: Any, lines: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        complete_plan(plan_of("Offline", user_conf=user_conf(lines)), 64, 64, MEASURED)


def test_mlperfs_rules_exclude_a_length_of_ones_own() -> None:
    with pytest.raises(RequestError, match="omit --count and --duration"):
        BenchSettings("Offline", rules="mlperf", count=5)
