"""The user.conf file of MLPerf: lines 'model.scenario.key = number', '*' for any model or scenario.

LoadGen reads the file itself, but says nothing of a key it does not know; so it is checked before.
"""

from __future__ import annotations

from difflib import get_close_matches

from cmx4trt.errors import RequestError
from cmx4trt.options import SCENARIOS

KEYS = (
    *("min_duration", "max_duration", "min_query_count", "max_query_count", "target_qps", "target_latency"),
    *("target_latency_percentile", "target_duration", "samples_per_query", "coalesce_queries", "max_async_queries"),
    *(
        "qsl_rng_seed",
        "sample_index_rng_seed",
        "schedule_rng_seed",
        "accuracy_log_rng_seed",
        "accuracy_log_probability",
    ),
    *("accuracy_log_sampling_target", "accuracy_sample_count_override", "performance_sample_count_override"),
    *("performance_issue_unique", "performance_issue_same", "performance_issue_same_index", "print_timestamps"),
    *(
        "sample_concatenate_permutation",
        "test05_qsl_rng_seed",
        "test05_sample_index_rng_seed",
        "test05_schedule_rng_seed",
    ),
)
"""Keys that LoadGen 6 reads (loadgen/test_settings_internal.cc, mlperf.conf), without those of language models, and without
'mode', which is an option here."""


def read_user_conf(path: str, network: str, scenario: str) -> dict[str, str]:
    """The values of the file that hold for this network and scenario, by key. Raises RequestError, naming the line."""
    try:
        with open(path, encoding="utf-8") as stream:
            lines = stream.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"cannot read user.conf {path} ({reason}); give a text file") from error
    values: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.split("#")[0].strip()
        if not text:
            continue
        model, wanted, key, value = _parse_line(text, f"line {number} of {path}")
        if model in ("*", network) and wanted in ("*", scenario):
            values[key] = value
    return values


def _parse_line(text: str, where: str) -> tuple[str, str, str, str]:
    name, equals, value = (part.strip() for part in text.partition(" = "))
    parts = name.rsplit(".", 2)
    if not equals or len(parts) != 3 or len(value.split()) != 1:
        raise RequestError(
            f"{where} is '{text}', expected 'model.scenario.key = number' with spaces around the equals sign"
        )
    model, scenario, key = parts
    if scenario not in ("*", *SCENARIOS):
        raise RequestError(f"{where} names scenario '{scenario}', expected one of *, {', '.join(SCENARIOS)}")
    if key not in KEYS:
        close = get_close_matches(key, KEYS, n=1)
        hint = "; give --mode" if key == "mode" else f"; did you mean '{close[0]}'?" if close else ""
        raise RequestError(f"{where} has the key '{key}', which LoadGen would ignore{hint}")
    try:
        float(value) if not value.lower().startswith("0x") else int(value, 16)
    except ValueError:
        raise RequestError(f"{where} has the value '{value}', expected a number") from None
    return model, scenario, key, value
