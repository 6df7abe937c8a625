"""user.conf: every key is one that LoadGen acts on, and every number one that it takes as it is meant."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmx4trt.bench.user_conf import KEYS, MODELS, read_user_conf
from cmx4trt.errors import RequestError
from cmx4trt.requests.options import SCENARIOS

lg = pytest.importorskip("mlperf_loadgen", reason="LoadGen is not installed (pip install 'cmx4trt[bench]')")
NOT_READ = (
    *("qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed", "target_duration", "accuracy_log_probability"),
    *("test05_qsl_rng_seed", "test05_sample_index_rng_seed", "test05_schedule_rng_seed", "mode"),
)
"""Keys of mlperf.conf, or of older releases, that a user's file cannot set."""


def values_of(made: Any) -> dict[str, Any]:
    return {name: getattr(made, name) for name in dir(made) if not name.startswith("_") and name != "FromConfig"}


def changed(folder: Path, scenario: str, lines: str) -> dict[str, Any]:
    """What LoadGen's settings are after reading these lines, where they were others before."""
    path = folder / "probe.conf"
    path.write_text(lines)
    made = lg.TestSettings()
    made.FromConfig("", "resnet50", scenario, 0)
    before = values_of(made)
    assert made.FromConfig(str(path), "resnet50", scenario, 2) == 0
    return {name: value for name, value in values_of(made).items() if value != before[name]}


def read(folder: Path, text: str, scenario: str = "Offline") -> dict[str, str]:
    path = folder / "user.conf"
    path.write_text(text)
    return read_user_conf(str(path), "resnet50", scenario)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("key", [*KEYS, *NOT_READ])
def test_a_key_is_accepted_where_loadgen_acts_on_it_and_refused_where_it_does_not(
    tmp_path: Path, key: str, scenario: str
) -> None:
    effects = [changed(tmp_path, scenario, f"*.{scenario}.{key} = {value}\n") for value in (1, 3)]
    line = f"*.{scenario}.{key} = 1\n"
    if any(effects):
        assert read(tmp_path, line, scenario) == {key: "1"}
    else:
        with pytest.raises(RequestError, match=f"line 1 of .* has the key '{key}', which LoadGen would ignore"):
            read(tmp_path, line, scenario)


def test_the_models_are_those_of_loadgens_own_conf() -> None:
    lines = re.findall(
        rb"^([a-z0-9._-]+)\.(?:\*|%b)\.[a-z_]+ = " % "|".join(SCENARIOS).encode(), Path(lg.__file__).read_bytes(), re.M
    )
    named = {line.decode() for line in lines}
    assert named <= set(MODELS)
    if (
        metadata.version("mlcommons-loadgen") == "6.0.17"
    ):  # older ones name fewer; a line for another model has no effect
        assert named == set(MODELS)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("*.Offline.target_qsp = 1", "did you mean 'target_qps'"),
        ("*.Offline.mode = 1", "give --mode"),
        ("*.Offline.qsl_rng_seed = 1", "would ignore"),
        ("*.Offline.samples_per_query = 8", "would ignore for Offline; it is for MultiStream"),
        ("*.Ofline.target_qps = 1", "names scenario 'Ofline'"),
        (
            "resnet.Offline.target_qps = 1",
            "names the model 'resnet', which MLPerf does not have; did you mean 'resnet50'",
        ),
        ("target_qps = 1", "expected 'model.scenario.key = number'"),
        ("*.Offline.target_qps=1", "with spaces around the equals sign"),
        ("*.Offline.target_qps = 1 2", "expected 'model.scenario.key = number'"),
        ("*.Offline.target_qps = 1 # as measured", "comments on separate lines"),
    ],
)
def test_a_line_loadgen_would_ignore_is_refused_with_its_number(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(RequestError, match=f"line 2 of .*{words}"):
        read(tmp_path, f"\n{line}\n")


@pytest.mark.parametrize(
    ("scenario", "key", "value"),
    [
        *(
            ("Offline", "min_query_count", value)
            for value in ("1e2", "5.7", "1e30", "-5", "9" * 23, "1_00", "010", "0x10", "0")
        ),
        *(("Offline", "min_duration", value) for value in ("-5", "1e3", "604800001", "+5")),
        *(
            ("Server", "target_qps", value)
            for value in ("0", "1e400", "-15", "nan", "inf", "1_0", "0x10", "fast", "1e")
        ),
        *(("SingleStream", "target_latency", value) for value in ("0", "-1", "nan")),
        *(("Server", "target_latency", value) for value in ("0", "3.7")),
        *(("SingleStream", "target_latency_percentile", value) for value in ("0", "100", "nan")),
        *(("MultiStream", "samples_per_query", value) for value in ("0", "-1", "2.5")),
        *(("Offline", "performance_issue_same", value) for value in ("2", "yes", "0.5")),
        ("Offline", "performance_sample_count_override", "0"),
    ],
)
def test_a_number_loadgen_would_take_for_another_is_refused(
    tmp_path: Path, scenario: str, key: str, value: str
) -> None:
    for wanted in ("*", scenario):
        with pytest.raises(
            RequestError, match=rf"line 1 of .* has the value '{re.escape(value)}', expected a .*number from"
        ):
            read(tmp_path, f"*.{wanted}.{key} = {value}\n", scenario)


@given(st.sampled_from(SCENARIOS), st.data())
def test_loadgen_takes_an_accepted_number_as_it_is_written(
    tmp_path_factory: pytest.TempPathFactory, scenario: str, data: Any
) -> None:
    key = data.draw(st.sampled_from([key for key in KEYS if scenario in KEYS[key]]))
    takes = KEYS[key][scenario]
    numbers = st.integers(int(takes.least), int(takes.most)) if takes.whole else st.floats(takes.least, takes.most)
    number = data.draw(numbers)
    folder = tmp_path_factory.mktemp("conf")
    line = f"*.{scenario}.{key} = {number}\n"
    assert read(folder, line, scenario) == {key: str(number)}
    for name, value in changed(folder, scenario, line).items():
        if not name.startswith(tuple(f"{other}_" for other in ("offline", "server", "single_stream", "multi_stream"))):
            assert value == number


def test_the_same_word_means_something_else_in_another_scenario(tmp_path: Path) -> None:
    assert read(tmp_path, "*.*.target_latency = 0.5\n", "SingleStream") == {"target_latency": "0.5"}
    assert read(tmp_path, "*.*.target_latency = 0.5\n", "Offline") == {}
    with pytest.raises(RequestError, match="expected a whole number"):
        read(tmp_path, "*.*.target_latency = 0.5\n", "Server")


@pytest.mark.parametrize("order", [1, -1])
def test_of_several_lines_the_one_that_loadgen_takes_holds(tmp_path: Path, order: int) -> None:
    lines = ["resnet50.Offline", "*.Offline", "resnet50.*", "*.*"]
    while lines:
        text = "".join(f"{line}.min_query_count = {number}\n" for number, line in list(enumerate(lines, 5))[::order])
        assert read(tmp_path, text) == {"min_query_count": "5"}
        assert changed(tmp_path, "Offline", text)["min_query_count"] == 5
        lines.pop(0)
    assert read(tmp_path, "*.*.min_query_count = 1\n*.*.min_query_count = 2\n") == {"min_query_count": "2"}


def test_a_byte_order_mark_is_refused(tmp_path: Path) -> None:
    line = "\ufeff*.Offline.min_query_count = 5\n"
    assert changed(tmp_path, "Offline", line) == {}
    with pytest.raises(RequestError, match=r"line 1 of .* byte order mark"):
        read(tmp_path, line)


def test_a_line_ends_where_loadgen_ends_it(tmp_path: Path) -> None:
    assert read(tmp_path, "*.Offline.min_query_count = 5\r\n") == {"min_query_count": "5"}
    with pytest.raises(RequestError, match="line 1"):
        read(tmp_path, "*.Offline.min_query_count = 5\u2028*.Offline.min_duration = 7\n")


def test_commented_lines_and_other_models_are_passed_over(tmp_path: Path) -> None:
    text = "# a comment\n#*.*.max_duration = 5\n\nbert.*.max_duration = 6\nresnet50.Server.max_duration = 7\n"
    assert read(tmp_path, text) == {}
    assert changed(tmp_path, "Offline", text) == {}


def test_a_missing_user_conf_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"cannot read user\.conf .*none"):
        read_user_conf(str(tmp_path / "none"), "resnet50", "Offline")
