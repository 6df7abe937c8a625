"""The arguments of ``cmx4trt bench`` and ``cmx4trt verify``, and what they call."""

from __future__ import annotations

import argparse
import atexit
import json
import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cmx4trt.errors import CmxError, RequestError
from cmx4trt.options import MODELS, SCENARIOS, Option
from cmx4trt.progress import Progress
from cmx4trt.values import parse_choice, parse_int, parse_path, parse_text

if TYPE_CHECKING:
    from cmx4trt.proof import Proof, ProofRequest

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
    """A folder, or the word 'synthetic'."""
    return "synthetic" if str(value).strip().lower() == "synthetic" else parse_path(name, value)


def _choice_option(name: str, default: str | None, help: str, choices: tuple[str, ...]) -> Option:
    return Option(name, default, help, lambda n, value: parse_choice(n, value, choices), choices)


VERIFY_OPTIONS: tuple[Option, ...] = (
    _choice_option("network", None, "what the engine must be of; another one is an error", MODELS),
    Option("model", None, "where the engine's ONNX file is now, if it was moved", parse_path),
    _choice_option(
        "execute",
        "auto",
        "what runs: the engine, its graph in ONNX Runtime, or whichever can",
        ("auto", "engine", "graph"),
    ),
    Option("data", None, "folder of preprocessed images (CM's get,dataset,preprocessed), or synthetic", _parse_data),
    Option("labels", None, "val_map.txt or openimages-mlperf.json (default: the one in the data folder)", parse_path),
    Option(
        "count",
        None,
        "samples: the first so many images for accuracy, or the length of a performance run",
        lambda name, value: parse_int(name, value, 1, MAX_COUNT),
    ),
    Option(
        "batch_size",
        None,
        "largest batch to form (default: the engine's)",
        lambda name, value: parse_int(name, value, 1, 65536),
    ),
    _choice_option("scenario", None, "MLPerf scenario (default: the one the engine is named for)", SCENARIOS),
    Option(
        "target_qps",
        None,
        "Server: samples per second to send; Offline: expected rate (default: measured)",
        _parse_positive,
    ),
    Option("user_conf", None, "MLPerf user.conf whose values win over ours", parse_path),
    Option("log_dir", None, "folder for LoadGen's logs (default: ENGINE's name with .results)", parse_path),
)
BENCH_OPTIONS: tuple[Option, ...] = (
    *VERIFY_OPTIONS,
    _choice_option("mode", "performance", "measure speed, or answer every image once", ("performance", "accuracy")),
    _choice_option(
        "rules", "short", "short: at least 10 s; mlperf: mlperf.conf as it is, 600 s and more", ("short", "mlperf")
    ),
    Option("duration", None, "least seconds of a performance run", _parse_seconds),
)


def add_verify_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``cmx4trt verify``."""
    _add_arguments(parser, VERIFY_OPTIONS)


def add_bench_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``cmx4trt bench``."""
    _add_arguments(parser, BENCH_OPTIONS)


def _add_arguments(parser: argparse.ArgumentParser, options: tuple[Option, ...]) -> None:
    parser.add_argument("engine", metavar="ENGINE", nargs="?", help="the engine file, or its manifest")
    for option in options:
        names = dict.fromkeys((f"--{option.name}", f"--{option.name.replace('_', '-')}"))
        metavar = "{" + ",".join(option.choices) + "}" if option.choices else option.name.upper()
        default = "" if option.default is None else f" (default: {option.default})"
        parser.add_argument(*names, dest=option.name, metavar=metavar, help=f"{option.help}{default}")
    parser.add_argument("--request", metavar="FILE", help="take the options from a JSON file (arguments override it)")
    parser.add_argument("--build_result", metavar="FILE", help="take ENGINE from the file that 'build --result' wrote")
    parser.add_argument("--result", metavar="FILE", help="write the outcome, error or success, to a JSON file")
    parser.set_defaults(interrupted="interrupted; logs are kept, and marked as partial")


def run_verify(arguments: argparse.Namespace, progress: Progress) -> Proof:
    """``cmx4trt verify``."""
    from cmx4trt.proof import verify_engine

    return verify_engine(_request(arguments, VERIFY_OPTIONS), progress)


def run_bench(arguments: argparse.Namespace, progress: Progress) -> Proof:
    """``cmx4trt bench``. A LoadGen that cannot be stopped would crash Python's farewell: then the process ends without."""
    from cmx4trt.bench.loadgen import left_behind
    from cmx4trt.proof import bench_engine

    try:
        return bench_engine(_request(arguments, BENCH_OPTIONS), progress)
    except CmxError as error:
        if left_behind():
            atexit.register(os._exit, error.exit_code)
        raise


def _request(arguments: argparse.Namespace, options: tuple[Option, ...]) -> ProofRequest:
    from cmx4trt.proof import ProofRequest

    values = _read_json(arguments.request, "request file") if arguments.request else {}
    known = {option.name: option for option in options}
    for name in values:
        if name not in known and name != "engine":
            raise RequestError(f"the request file {arguments.request} has '{name}', which is no option of this command")
    parsed: dict[str, Any] = {}
    for name, option in known.items():
        given = getattr(arguments, name)
        value = given if given is not None else values.get(name)
        if value is not None:
            parsed[name] = option.parse(name, value)
    engine = arguments.engine or values.get("engine")
    if engine is None and arguments.build_result:
        engine = _read_json(arguments.build_result, "build result").get("engine")
    if engine is None:
        raise RequestError("no engine: give the path of an engine that cmx4trt built, or of its manifest")
    return ProofRequest(engine=parse_path("engine", engine), **parsed)


def _read_json(path: str, what: str) -> Mapping[str, Any]:
    try:
        with open(path, encoding="utf-8") as stream:
            values = json.load(stream)
    except (OSError, ValueError) as error:
        raise RequestError(f"cannot read {what} {path} ({getattr(error, 'strerror', None) or error})") from error
    if not isinstance(values, dict):
        raise RequestError(f"{what} {path} is JSON of type {type(values).__name__}, expected an object")
    return values
