"""The one list of inputs: names, defaults, meanings, choices.

The command line is made from ``OPTIONS``; ``_cm.yaml`` and the README are tested against it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cmx4trt import backends, networks
from cmx4trt.backends.facts import PRECISIONS
from cmx4trt.base.values import (
    parse_bool,
    parse_choice,
    parse_data,
    parse_int,
    parse_path,
    parse_size,
    parse_text,
)

DEVICES = ("cpu", "cuda")
SCENARIOS = ("Offline", "Server", "SingleStream", "MultiStream")
FLOAT_TYPES = ("fp32", "fp16")
INPUT_TYPES = (*FLOAT_TYPES, "int8")
CALIBRATION_METHODS = ("minmax", "percentile", "entropy", "mse")
INPUT_RANGES = ("normalized", "0-1")
POSTPROCESS = ("tensors", "mlperf-nvidia", "none")

TILING_LEVELS = ("none", "fast", "moderate", "full")
"""TensorRT's enumeration ``TilingOptimizationLevel``."""

MAX_BATCH_SIZE = 65536
MAX_COPY_STREAMS = 16
MAX_AUX_STREAMS = 64
"""Far above what TensorRT uses of its own accord; each stream costs a CUDA stream and scratch memory."""
MAX_SEED = 2**32 - 1
WAIT_SECONDS = 3600
"""The same engine is built once: most builds take minutes, those that measure kernels up to an hour. A folder is locked while one
engine is written, which takes seconds."""
MAX_WAIT_SECONDS = 7 * 24 * 3600

Parser = Callable[[str, object], Any]


def _choice(choices: tuple[str, ...]) -> Parser:
    return lambda name, value: parse_choice(name, value, choices)


def _whole(low: int, high: int) -> Parser:
    return lambda name, value: parse_int(name, value, low, high)


@dataclass(frozen=True, slots=True)
class Option:
    """One input: its name (field of BuildRequest), default, meaning, parser, and the choices where they are few.

    Meaning and choices may be functions: those that follow the registry of backends.
    """

    name: str
    default: Any
    meaning: str | Callable[[], str]
    parse: Parser
    offered: tuple[str, ...] | Callable[[], tuple[str, ...]] = ()

    @property
    def help(self) -> str:
        """What it means, for people."""
        return self.meaning if isinstance(self.meaning, str) else self.meaning()

    @property
    def choices(self) -> tuple[str, ...]:
        """The values it takes; none where they are many."""
        return self.offered() if callable(self.offered) else self.offered


def choice_option(name: str, default: str | None, help: str | Callable[[], str], choices: tuple[str, ...]) -> Option:
    """An option that takes one of ``choices``."""
    return Option(name, default, help, _choice(choices), choices)


def _builder_help() -> str:
    titles = [backend.title for backend in backends.all_backends()]
    defaults = (f"{backends.default_backend(device).name} on {device}" for device in DEVICES)
    return f"what builds the engine: {', '.join(titles[:-1])}, or {titles[-1]} (default: {', '.join(defaults)})"


def _precision_help() -> str:
    usual = backends.default_backend(DEVICES[0]).default_precision
    others = [b for b in backends.all_backends() if b.default_precision != usual]
    defaults = (usual, *(f"{backend.name}: {backend.default_precision}" for backend in others))
    return f"compute precision (default: {'; '.join(defaults)})"


def _target_help() -> str:
    several = [backend for backend in backends.all_backends() if len(backend.targets.words) > 1]
    return "target GPUs; " + "; ".join(f"{backend.name}: {backend.targets.help}" for backend in several)


OPTIONS: tuple[Option, ...] = (
    Option(
        "network",
        networks.names()[0],
        "MLPerf model to build",
        lambda name, value: parse_choice(name, value, networks.names()),
        networks.names,
    ),
    choice_option("device", "cpu", "where the build runs: cpu needs no GPU, cuda uses the local one", DEVICES),
    Option(
        "builder",
        None,
        _builder_help,
        lambda name, value: parse_choice(name, value, backends.names()),
        backends.names,
    ),
    choice_option("precision", None, _precision_help, PRECISIONS),
    choice_option("scenario", "Offline", "MLPerf scenario the engine is named for", SCENARIOS),
    Option(
        "batch_size",
        1,
        "largest batch N, in samples; the engine has a dynamic batch, 1 to N",
        _whole(1, MAX_BATCH_SIZE),
    ),
    Option("copy_streams", 1, "number of optimization profiles, one per copy stream", _whole(1, MAX_COPY_STREAMS)),
    Option("model", None, "path to your own ONNX file, instead of the MLPerf model", parse_path),
    Option(
        "random_weights",
        None,
        "seed (a whole number) of random weights: the exact topology, without a model file",
        _whole(0, MAX_SEED),
    ),
    Option(
        "target",
        None,
        _target_help,
        parse_text,  # what it may be depends on the backend: backends.parse_target
    ),
    Option(
        "workspace_size",
        "4GiB",
        "workspace of the builder, its limit of scratch memory: in KiB, or with a suffix such as 4GiB",
        parse_size,
    ),
    choice_option(
        "input_dtype",
        "fp32",
        "data type of the engine's input (int8: quantized by the caller; for int8 engines)",
        INPUT_TYPES,
    ),
    choice_option("output_dtype", "fp32", "data type of the engine's floating-point outputs", FLOAT_TYPES),
    choice_option(
        "input_range",
        "normalized",
        "retinanet: range of the input images: normalized (by the caller), or 0-1 (the engine normalizes them)",
        INPUT_RANGES,
    ),
    choice_option(
        "postprocess",
        "tensors",
        "retinanet: outputs: tensors (boxes, scores, labels), mlperf-nvidia (the 7001-float record of NVIDIA's harness), "
        "none (raw head tensors)",
        POSTPROCESS,
    ),
    Option(
        "nms_offset",
        True,
        "retinanet: use the class-offset trick of torchvision's batched_nms, as exported ONNX files do (no: compare the boxes "
        "themselves, as PyTorch does for many boxes)",
        parse_bool,
    ),
    Option(
        "calibration_data",
        None,
        "int8: folder of preprocessed float32 images (.npy or raw), or one tensor file; random: synthetic, for random weights",
        parse_data,
    ),
    Option(
        "calibration_list",
        None,
        "int8: text file with the names of the calibration images, in order",
        parse_path,
    ),
    Option(
        "calibration_count",
        None,
        "int8: number of calibration images (default: all, at most 500)",
        _whole(1, 10**6),
    ),
    choice_option(
        "calibration_method",
        None,
        "int8: how ranges are computed from the images (default: mse)",
        CALIBRATION_METHODS,
    ),
    Option(
        "calibration_cache",
        None,
        "int8: file of ranges, in place of images: a TensorRT calibration cache, or the JSON of cmx4trt calibrate",
        parse_path,
    ),
    Option(
        "keep_fp16",
        None,
        "int8: layers to keep in float16: comma-separated names, a number N (the N most sensitive layers), or auto",
        parse_text,
    ),
    Option(
        "common_code",
        None,
        "common-code: path to closed/NVIDIA in an MLPerf results repository, r2.1 to r6.0",
        parse_path,
    ),
    Option(
        "inference_source",
        None,
        "common-code: path to a clone of mlcommons/inference, which NVIDIA's code needs",
        parse_path,
    ),
    Option(
        "builder_optimization_level",
        None,
        "tensorrt: builder optimization level, 0 (fastest build) to 5 (fastest engine) (default: the library's)",
        _whole(0, 5),
    ),
    choice_option(
        "tiling_optimization_level",
        None,
        "tensorrt: tiling optimization level (default: the library's)",
        TILING_LEVELS,
    ),
    Option(
        "max_aux_streams",
        None,
        "tensorrt: maximum number of auxiliary streams (default: the library's choice)",
        _whole(0, MAX_AUX_STREAMS),
    ),
    Option(
        "timing_cache",
        None,
        "tensorrt: timing cache to reuse (default: one in the output folder)",
        parse_path,
    ),
    Option(
        "kernel_choices",
        None,
        "hopper: file of kernel timings measured by cmx4trt tune, to select kernels by (default: timings of an H100)",
        parse_path,
    ),
    Option("verify", True, "compare the engine's graph with the original model before publishing", parse_bool),
    Option("report", True, "write a report beside the engine, a single HTML file", parse_bool),
    Option("output_dir", "engines", "folder where engines are published, created if missing", parse_path),
    Option(
        "wait",
        WAIT_SECONDS,
        "maximum time to wait while another process builds the same engine or writes to the output folder, in seconds",
        _whole(0, MAX_WAIT_SECONDS),
    ),
)
OPTION_GROUPS: Mapping[str, str] = {
    "network": "what to build",
    "model": "source of the weights",
    "target": "target GPUs and memory",
    "input_dtype": "inputs and outputs of the engine",
    "calibration_data": "int8",
    "common_code": "NVIDIA's MLPerf code (common-code)",
    "builder_optimization_level": "TensorRT's builder",
    "kernel_choices": "Hopper kernels",
    "verify": "verification and output",
}
"""Headings of the help, by the first option below each."""
OPTIONS_BY_NAME: Mapping[str, Option] = {option.name: option for option in OPTIONS}
