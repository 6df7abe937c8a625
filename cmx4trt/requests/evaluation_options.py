"""What can be asked of an engine: the options of ``cmx4trt verify`` and ``bench``, and of CM's ``_verify`` and ``_bench``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cmx4trt.base.frozen import Frozen, fields
from cmx4trt.base.options import PATH, Kind, Option, choice, options_of, path_or, question, whole
from cmx4trt.base.values import nearest, parse_text
from cmx4trt.errors import RequestError
from cmx4trt.requests.options import GENERAL_OPTIONS, MAX_BATCH_SIZE, SCENARIOS, GeneralOptions

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


_BOTH, _BENCH = ("verify", "bench"), ("bench",)
_NETWORK = next(one for one in GENERAL_OPTIONS if one.name == "network")


class EvaluationOptions(Frozen):
    """What is asked of an engine, whichever it is: the options of ``cmx4trt bench``, of which ``verify`` has those of both.

    None is the default that the option names. ``duration``: seconds; ``target_qps``: samples per second.
    """

    network: str | None = question(
        _NETWORK.kind, "network the engine must be built from; another one is an error", commands=_BOTH
    )
    model: str | None = question(PATH, "current path of the engine's ONNX file, if it was moved", commands=_BOTH)
    execute: str = question(
        choice(EXECUTE),
        "what to run: the engine, its graph in ONNX Runtime, or (auto) the engine if it can run here, otherwise the graph",
        default=AUTO,
        commands=_BOTH,
    )
    data: str | None = question(
        path_or(SYNTHETIC_DATA),
        "folder of preprocessed images (CM's get,dataset,preprocessed), or synthetic for synthetic images",
        commands=_BOTH,
        cm_note=" (default: CM's data set for accuracy, synthetic for speed)",
    )
    labels: str | None = question(
        PATH,
        "ground-truth labels: val_map.txt or openimages-mlperf.json (default: in the data folder)",
        commands=_BOTH,
        for_loadgen=True,
    )
    count: int | None = question(
        whole(1, MAX_COUNT),
        "number of samples: the first N images for accuracy, or the length of a performance run",
        commands=_BOTH,
        for_loadgen=True,
        cm_note=" (default for accuracy: CM_BATCH_COUNT x CM_BATCH_SIZE images; all images of a folder given by --data)",
    )
    batch_size: int | None = question(
        whole(1, MAX_BATCH_SIZE),
        "largest batch to form, in samples (default: the engine's)",
        commands=_BOTH,
        for_loadgen=True,
    )
    scenario: str | None = question(
        choice(SCENARIOS),
        "MLPerf scenario (default: the one the engine is named for)",
        commands=_BOTH,
        for_loadgen=True,
    )
    target_qps: float | None = question(
        Kind(_parse_positive, json_type="number"),
        "target rate in samples per second: sent (Server) or expected (Offline) (default: measured)",
        commands=_BOTH,
        for_loadgen=True,
        cm_key="CM_MLPERF_LOADGEN_TARGET_QPS",
    )
    user_conf: str | None = question(
        PATH, "MLPerf user.conf; it overrides our settings", commands=_BOTH, for_loadgen=True
    )
    log_dir: str | None = question(
        PATH,
        "folder for LoadGen's logs (default: the engine's name with .results)",
        commands=_BOTH,
        for_loadgen=True,
    )
    mode: str = question(
        choice(MODES),
        "measure speed (performance), or run every image once (accuracy)",
        default=PERFORMANCE,
        commands=_BENCH,
        cm_key="CM_MLPERF_LOADGEN_MODE",
    )
    rules: str = question(
        choice(RULES),
        "length of the run: at least 10 s (short), or as mlperf.conf demands, 600 s and more (mlperf)",
        default=SHORT,
        commands=_BENCH,
    )
    duration: float | None = question(
        Kind(_parse_seconds, json_type="number"),
        "minimum duration of a performance run, in seconds",
        commands=_BENCH,
    )
    gpus: str | None = question(
        Kind(_parse_gpus),
        "GPUs that share the queries of Offline and Server: all, or numbers such as 0,1 (default: the first)",
        commands=_BENCH,
    )

    @classmethod
    def from_values(cls, values: Mapping[str, object], command: str = "bench") -> EvaluationOptions:
        """Options of a command from values as text or as Python values; absent and None mean the default. Raises RequestError."""
        known = {one.name: one for one in OPTIONS_OF[command]}
        for name in values:
            if name not in known:
                raise RequestError(f"'{name}' is not an option of {command}{nearest(str(name), tuple(known))}")
        return cls(**{name: known[name].parse(value) for name, value in values.items() if value is not None})

    def to_dict(self) -> dict[str, Any]:
        """Those that differ from their default, by name, as JSON types."""
        values = ((f, getattr(self, f.name)) for f in fields(self))
        return {f.name: value for f, value in values if value != f.default}


BENCH_OPTIONS: tuple[Option, ...] = options_of(EvaluationOptions)
VERIFY_OPTIONS = tuple(one for one in BENCH_OPTIONS if "verify" in one.commands)
OPTIONS_OF = {"verify": VERIFY_OPTIONS, "bench": BENCH_OPTIONS}
"""The two commands, in the order in which a build's ``--evaluation`` runs them."""
LOADGEN_OPTIONS = tuple(one.name for one in BENCH_OPTIONS if one.for_loadgen)
"""Of the options of verify those that say how accuracy is measured."""
CM_OPTIONS = tuple(one for one in BENCH_OPTIONS if one.name not in {f.name for f in fields(GeneralOptions)})
"""Those that a CM line has beside the options of the build."""
