"""The user.conf file of MLPerf: lines 'model.scenario.key = number', '*' for any model or scenario.

LoadGen reads the file itself, but silently accepts a key, model or number it cannot use: '1e2' queries are 1, '-5' ms are half a
billion years. So the file is checked first, with LoadGen's own grammar (FromConfig in loadgen/test_settings_internal.cc).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from cmx4trt.base.damage import MAX_DIGITS
from cmx4trt.base.files import open_text
from cmx4trt.errors import RequestError
from cmx4trt.requests.options import SCENARIOS

_WHOLE = re.compile(r"0|[1-9][0-9]*")
"""LoadGen reads '010' as eight."""
_REAL = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class Number:
    """The values of a key: numbers from ``least`` to ``most``; only ``whole`` ones if LoadGen would truncate fractions."""

    least: float
    most: float
    whole: bool = True

    def holds(self, text: str) -> bool:
        """Whether ``text`` is such a number."""
        if len(text) > MAX_DIGITS or (_WHOLE if self.whole else _REAL).fullmatch(text) is None:
            return False
        return self.least <= (int(text) if self.whole else float(text)) <= self.most

    def __str__(self) -> str:
        """The numbers in words."""
        return f"a {'whole ' if self.whole else ''}number from {self.least:g} to {self.most:.10g}"


_MAX_MILLISECONDS = 7 * 24 * 3600 * 1000
"""A week, as for the option duration."""
_MAX_SAMPLES = 10**9
_SWITCH, _UP_TO, _SOME = Number(0, 1), Number(0, _MAX_SAMPLES), Number(1, _MAX_SAMPLES)
_MILLISECONDS = Number(0, _MAX_MILLISECONDS)
_RATE = Number(1e-6, 1e9, whole=False)
_LATENCY = Number(1e-6, _MAX_MILLISECONDS, whole=False)
_PERCENTILE = Number(0.01, 99.99, whole=False)

KEYS: Mapping[str, Mapping[str, Number]] = {
    "min_duration": dict.fromkeys(SCENARIOS, _MILLISECONDS),
    "max_duration": dict.fromkeys(SCENARIOS, _MILLISECONDS),
    "min_query_count": dict.fromkeys(SCENARIOS, _SOME),
    "max_query_count": dict.fromkeys(SCENARIOS, _UP_TO),
    "target_qps": dict.fromkeys(("Offline", "Server"), _RATE),
    "target_latency": {
        "SingleStream": _LATENCY,
        "MultiStream": _LATENCY,
        "Server": Number(1, _MAX_MILLISECONDS),  # the bound, which LoadGen stores in whole milliseconds
    },
    "target_latency_percentile": dict.fromkeys(("SingleStream", "MultiStream", "Server"), _PERCENTILE),
    "samples_per_query": {"MultiStream": Number(1, 1 << 20)},
    "coalesce_queries": {"Server": _SWITCH},
    "max_async_queries": {"Server": Number(0, (1 << 31) - 1)},
    "accuracy_log_rng_seed": dict.fromkeys(SCENARIOS, Number(0, (1 << 64) - 1)),
    "accuracy_log_sampling_target": dict.fromkeys(SCENARIOS, _UP_TO),
    "accuracy_sample_count_override": dict.fromkeys(SCENARIOS, _UP_TO),
    "performance_sample_count_override": dict.fromkeys(SCENARIOS, Number(1, 10**7)),
    "performance_issue_unique": dict.fromkeys(SCENARIOS, _SWITCH),
    "performance_issue_same": dict.fromkeys(SCENARIOS, _SWITCH),
    "performance_issue_same_index": dict.fromkeys(SCENARIOS, _UP_TO),
    "print_timestamps": dict.fromkeys(SCENARIOS, _SWITCH),
    "sample_concatenate_permutation": dict.fromkeys(SCENARIOS, _SWITCH),
}
"""Keys that LoadGen 6 reads from a user's file -> the scenarios it reads them for -> their values; without those of language
models. The tests set each and check for an effect. The seeds, Offline's percentile and test05 are only in mlperf.conf."""

MODELS = (
    *("3d-unet", "bert", "deepseek-r1", "deepseek-r1-interactive", "dlrm", "dlrm-v2", "dlrm-v3", "gpt-oss-120b"),
    *("gpt-oss-120b-interactive", "gptj", "llama2-70b", "llama2-70b-interactive", "llama3_1-405b"),
    *("llama3_1-405b-interactive", "llama3_1-8b", "llama3_1-8b-edge", "llama3_1-8b-interactive", "mixtral-8x7b"),
    *("pointpainting", "qwen3-vl-235b-a22b", "resnet50", "retinanet", "rgat", "rnnt", "ssd-mobilenet"),
    *("stable-diffusion-xl", "wan-2.2-t2v-a14b", "whisper", "yolo"),
)
"""Models that the mlperf.conf of LoadGen 6.0.17 names; a submitter's file may have lines for any of them."""


def read_user_conf(path: str, network: str, scenario: str) -> dict[str, str]:
    """The values of the file that apply to this network and scenario, by key. Raises RequestError, naming the line."""
    try:
        with open_text(path, newline="") as stream:
            text = stream.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"cannot read user.conf {path} ({reason}); give a text file") from error
    if text.startswith(_BYTE_ORDER_MARK):
        raise RequestError(
            f"line 1 of {path} begins with a byte order mark, which makes LoadGen ignore the line; save the file without it"
        )
    found: dict[str, tuple[tuple[bool, bool], str]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        model, wanted, key, value = _parse_line(words, network, scenario, f"line {number} of {path}")
        if model in ("*", network) and wanted in ("*", scenario) and scenario in KEYS[key]:
            weight = (wanted != "*", model != "*")  # a line for a scenario overrides a line for a model
            if key not in found or weight >= found[key][0]:
                found[key] = (weight, value)
    return {key: value for key, (_, value) in found.items()}


def _parse_line(words: list[str], network: str, scenario: str, where: str) -> tuple[str, str, str, str]:
    """Model, scenario, key and value of a line; the value is checked for the line's scenario, or for ``scenario`` if that is
    '*'."""
    parts = words[0].rsplit(".", 2)
    if len(words) != 3 or words[1] != "=" or len(parts) != 3:
        raise RequestError(
            f"{where} is '{' '.join(words)}', expected 'model.scenario.key = number' with spaces around the equals sign, "
            "comments on separate lines"
        )
    model, wanted, key = parts
    if model not in ("*", network, *MODELS):
        raise RequestError(f"{where} names the model '{model}', which MLPerf does not have{_hint(model, MODELS)}")
    if wanted not in ("*", *SCENARIOS):
        raise RequestError(f"{where} names scenario '{wanted}', expected one of *, {', '.join(SCENARIOS)}")
    if key not in KEYS:
        hint = "; give --mode" if key == "mode" else _hint(key, tuple(KEYS))
        raise RequestError(f"{where} has the key '{key}', which LoadGen would ignore{hint}")
    if wanted != "*" and wanted not in KEYS[key]:
        raise RequestError(
            f"{where} has the key '{key}', which LoadGen would ignore for {wanted}; it is for {', '.join(KEYS[key])}"
        )
    takes = KEYS[key].get(scenario if wanted == "*" else wanted)
    if takes is not None and not takes.holds(words[2]):
        raise RequestError(f"{where} has the value '{words[2]}', expected {takes}")
    return model, wanted, key, words[2]


def _hint(word: str, known: tuple[str, ...]) -> str:
    close = get_close_matches(word.lower(), known, n=1)
    return f"; did you mean '{close[0]}'?" if close else "; remove the line"
