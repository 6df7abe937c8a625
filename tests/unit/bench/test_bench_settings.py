"""LoadGen's settings, and user.conf."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmx4trt.bench.settings import (
    SHORT_QUERIES,
    BenchSettings,
    Measured,
    loadgen_settings,
    samples_in_memory,
)
from cmx4trt.bench.user_conf import KEYS, read_user_conf
from cmx4trt.errors import RequestError
from cmx4trt.options import SCENARIOS

lg = pytest.importorskip("mlperf_loadgen", reason="LoadGen is not installed (pip install 'cmx4trt[bench]')")
MEASURED = Measured(rate=1000.0, latency=0.01)


def settings_of(scenario: str, network: str = "resnet50", **values: Any) -> tuple[Any, dict[str, Any]]:
    return loadgen_settings(lg, network, BenchSettings(scenario, **values), 1024, MEASURED)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize(("network", "bound_ms"), [("resnet50", 15), ("retinanet", 100)])
def test_mlperfs_rules_are_those_of_mlperf_conf(scenario: str, network: str, bound_ms: int) -> None:
    made, departures = settings_of(scenario, network, rules="mlperf")
    assert made.min_duration_ms == 600_000
    assert made.min_query_count == {"Offline": 24576, "MultiStream": 662}.get(scenario, 100)
    assert made.server_target_latency_ns == bound_ms * 10**6
    assert made.qsl_rng_seed != 0
    assert departures == {}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_short_run_names_every_departure(scenario: str) -> None:
    made, departures = settings_of(scenario)
    assert made.min_duration_ms == 10_000
    assert departures["min_duration_ms"] == {"used": 10_000, "mlperf": 600_000}
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


def test_user_conf_wins_over_the_short_run_and_explicit_options_over_it(tmp_path: Path) -> None:
    path = tmp_path / "user.conf"
    path.write_text(
        "# mine\n*.Offline.min_duration = 2000\nresnet50.*.min_query_count = 77\nretinanet.*.min_query_count = 5\n"
    )
    made, _ = settings_of("Offline", user_conf=str(path))
    assert (made.min_duration_ms, made.min_query_count) == (2000, 77)
    made, _ = settings_of("Offline", user_conf=str(path), duration=3.5)
    assert (made.min_duration_ms, made.min_query_count) == (3500, 77)
    made, _ = settings_of("Server", user_conf=str(path), target_qps=12.5)
    assert made.server_target_qps == 12.5
    assert made.min_duration_ms == 10_000  # the line is for Offline


def test_user_conf_sets_the_rate_instead_of_the_measurement(tmp_path: Path) -> None:
    path = tmp_path / "user.conf"
    path.write_text("*.Server.target_qps = 321.5\n*.Server.target_latency = 30\n")
    made, departures = settings_of("Server", user_conf=str(path))
    assert made.server_target_qps == 321.5
    assert departures["server_target_latency_ns"] == {"used": 30_000_000, "mlperf": 15_000_000}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("*.Offline.target_qsp = 1", "did you mean 'target_qps'"),
        ("*.Offline.mode = 1", "give --mode"),
        ("*.Ofline.target_qps = 1", "names scenario 'Ofline'"),
        ("target_qps = 1", "expected 'model.scenario.key = number'"),
        ("*.Offline.target_qps=1", "with spaces around the equals sign"),
        ("*.Offline.target_qps = fast", "the value 'fast', expected a number"),
        ("*.Offline.target_qps = 1 2", "expected 'model.scenario.key = number'"),
    ],
)
def test_a_line_loadgen_would_ignore_is_refused_with_its_number(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "user.conf"
    path.write_text(f"\n{line}\n")
    with pytest.raises(RequestError, match=f"line 2 of .*{words}"):
        read_user_conf(str(path), "resnet50", "Offline")


def test_a_missing_user_conf_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"cannot read user\.conf .*none"):
        settings_of("Offline", user_conf=str(tmp_path / "none"))


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 10**9)), max_size=8))
def test_known_keys_are_read_for_the_right_scenario(pairs: list[tuple[str, int]]) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write("".join(f"resnet50.Server.{key} = {value}\n" for key, value in pairs))
        file.flush()
        assert read_user_conf(file.name, "resnet50", "Server") == {key: str(value) for key, value in pairs}
        assert read_user_conf(file.name, "resnet50", "Offline") == {}


@pytest.mark.parametrize(
    ("batch", "rules", "expected"), [(1, "short", 64), (48, "short", 96), (256, "mlperf", 1024), (1000, "mlperf", 2000)]
)
def test_samples_in_memory_are_whole_batches(batch: int, rules: str, expected: int) -> None:
    assert samples_in_memory(lg, "resnet50", BenchSettings("Offline", rules=rules), batch, 50000) == expected
    assert samples_in_memory(lg, "resnet50", BenchSettings("Offline", rules=rules), batch, 10) == 10


def test_mlperfs_rules_exclude_a_length_of_ones_own() -> None:
    with pytest.raises(RequestError, match="leave --count and --duration out"):
        BenchSettings("Offline", rules="mlperf", count=5)
