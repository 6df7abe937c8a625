"""The options of ``cmx4trt verify`` and ``cmx4trt bench``, which CM's variations ``_verify`` and ``_bench`` take too."""

from __future__ import annotations

import math
from dataclasses import replace

from cmx4trt.base.values import parse_int, parse_path, parse_text
from cmx4trt.errors import RequestError
from cmx4trt.requests.options import MAX_BATCH_SIZE, OPTIONS_BY_NAME, SCENARIOS, Option, choice_option

AUTO, ENGINE, GRAPH = EXECUTE = ("auto", "engine", "graph")
"""What runs: the engine if it can, else the graph; only the engine; only the graph."""
PERFORMANCE, ACCURACY = MODES = ("performance", "accuracy")
SHORT, MLPERF = RULES = ("short", "mlperf")
SYNTHETIC_DATA = "synthetic"
"""Instead of a folder of images: synthetic ones."""
ALL_GPUS = "all"
MAX_COUNT = 10**9
MAX_SECONDS = 7 * 24 * 3600.0


def _parse_positive(name: str, value: object) -> float:
    """A positive number."""
    text = parse_text(name, value)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= 1e9:
        raise RequestError(f"{name} is '{text}', expected a positive number")
    return number


def _parse_seconds(name: str, value: object) -> float:
    number = _parse_positive(name, value)
    if number > MAX_SECONDS:
        raise RequestError(f"{name} is {number:g}, expected at most {MAX_SECONDS:g} seconds")
    return number


def _parse_data(name: str, value: object) -> str:
    """A folder, or the word for synthetic images."""
    return SYNTHETIC_DATA if str(value).strip().lower() == SYNTHETIC_DATA else parse_path(name, value)


def _parse_gpus(name: str, value: object) -> str:
    """'all', or numbers of GPUs, each once: '0,1'."""
    text = ",".join(part.strip() for part in parse_text(name, value).lower().split(","))
    if text == ALL_GPUS:
        return text
    numbers = text.split(",")
    if not all(number.isascii() and number.isdigit() and len(number) < 4 for number in numbers):
        raise RequestError(f"{name} is '{text}', expected all, or numbers of GPUs such as 0,1")
    if len({int(number) for number in numbers}) < len(numbers):
        raise RequestError(f"{name} is '{text}', expected every GPU once")
    return ",".join(str(int(number)) for number in numbers)


VERIFY_OPTIONS: tuple[Option, ...] = (
    replace(
        OPTIONS_BY_NAME["network"],
        default=None,
        meaning="network the engine must be built from; another one is an error",
    ),
    Option("model", None, "current path of the engine's ONNX file, if it was moved", parse_path),
    choice_option(
        "execute",
        AUTO,
        "what to run: the engine, its graph in ONNX Runtime, or (auto) the engine where it can run, else the graph",
        EXECUTE,
    ),
    Option(
        "data",
        None,
        "folder of preprocessed images (CM's get,dataset,preprocessed), or synthetic for synthetic images",
        _parse_data,
    ),
    Option(
        "labels",
        None,
        "ground-truth labels: val_map.txt or openimages-mlperf.json (default: in the data folder)",
        parse_path,
    ),
    Option(
        "count",
        None,
        "number of samples: the first N images for accuracy, or the length of a performance run",
        lambda name, value: parse_int(name, value, 1, MAX_COUNT),
    ),
    Option(
        "batch_size",
        None,
        "largest batch to form, in samples (default: the engine's)",
        lambda name, value: parse_int(name, value, 1, MAX_BATCH_SIZE),
    ),
    choice_option("scenario", None, "MLPerf scenario (default: the one the engine is named for)", SCENARIOS),
    Option(
        "target_qps",
        None,
        "target rate in samples per second: sent (Server) or expected (Offline) (default: measured)",
        _parse_positive,
    ),
    Option("user_conf", None, "MLPerf user.conf; it overrides our settings", parse_path),
    Option("log_dir", None, "folder for LoadGen's logs (default: the engine's name with .results)", parse_path),
)
BENCH_OPTIONS: tuple[Option, ...] = (
    *VERIFY_OPTIONS,
    choice_option(
        "mode",
        PERFORMANCE,
        "measure speed (performance), or run every image once (accuracy)",
        MODES,
    ),
    choice_option(
        "rules",
        SHORT,
        "length of the run: at least 10 s (short), or as mlperf.conf demands, 600 s and more (mlperf)",
        RULES,
    ),
    Option("duration", None, "minimum duration of a performance run, in seconds", _parse_seconds),
    Option(
        "gpus",
        None,
        "GPUs that share the queries of Offline and Server: all, or numbers such as 0,1 (default: the first)",
        _parse_gpus,
    ),
)
LOADGEN_OPTIONS = ("labels", "count", "batch_size", "scenario", "target_qps", "user_conf", "log_dir")
"""Of the options of verify those that say how accuracy is measured."""
CM_OPTIONS: tuple[Option, ...] = tuple(option for option in BENCH_OPTIONS if option.name not in OPTIONS_BY_NAME)
"""Those that a CM line has beside the options of the build."""
