"""What a user wants built: every option with its meaning, and the validated, frozen request made from them.

The table ``OPTIONS`` is the one list of inputs: the command line is made from it, ``_cm.yaml`` and the README are
tested against it. Values arrive as text (from a shell, from CM) or as Python values (from the Python API).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from cmx4trt.errors import RequestError

MODELS = ("resnet50", "retinanet")
DEVICES = ("cpu", "cuda")
BUILDERS = ("tensorrt-rtx", "tensorrt", "common-code")
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
SCENARIOS = ("Offline", "Server", "SingleStream", "MultiStream")
FLOAT_TYPES = ("fp32", "fp16")
INPUT_TYPES = (*FLOAT_TYPES, "int8")
RANDOM_DATA = "random"
"""``calibration_data`` for networks with random weights: seeded normal images."""
CALIBRATION_METHODS = ("minmax", "percentile", "entropy")
INPUT_RANGES = ("normalized", "0-1")
POSTPROCESS = ("tensors", "mlperf-nvidia", "none")

TARGETS = {
    "portable": (),
    "turing": ("sm75",),
    "ampere": ("sm80", "sm86"),
    "ada": ("sm89",),
    "blackwell": ("sm120", "sm121"),
    "current": ("current",),
}
"""Names of GPU generations -> compute capabilities; 'portable' leaves the choice to the library."""
COMPUTE_CAPABILITIES = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
"""What TensorRT-RTX 1.7 can compile for (its enumeration ``ComputeCapability``)."""
NATIVE_TARGETS = ("current", "same_compute_capability", "ampere_plus")
"""What a TensorRT engine can be for: the GPU it is built on, those with its compute capability, Ampere and all later ones
(TensorRT's enumeration ``HardwareCompatibilityLevel``)."""
TILING_LEVELS = ("none", "fast", "moderate", "full")
"""TensorRT's enumeration ``TilingOptimizationLevel``."""

KIB = 1024
_SIZE_UNITS = {"": KIB, "b": 1, "kib": KIB, "mib": KIB**2, "gib": KIB**3, "kb": 10**3, "mb": 10**6, "gb": 10**9}
MIN_WORKSPACE = 16 * KIB**2
"""Below this TensorRT-RTX cannot place even one convolution of ResNet-50 (docs/reference: workspace)."""
MAX_BATCH_SIZE = 65536
MAX_COPY_STREAMS = 16
MAX_AUX_STREAMS = 64
"""Far above what TensorRT uses of its own accord; each stream costs a CUDA stream and scratch memory."""
MAX_SEED = 2**32 - 1


def _nearest(value: str, choices: tuple[str, ...]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(value.lower(), [c.lower() for c in choices], n=1)
    if not close:
        return ""
    return f"; did you mean '{next(c for c in choices if c.lower() == close[0])}'?"


def parse_choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    """The member of ``choices`` that ``value`` names, in its spelling; case does not matter."""
    text = _text(name, value)
    for choice in choices:
        if text.lower() == choice.lower():
            return choice
    raise RequestError(f"{name} is '{text}', expected one of {', '.join(choices)}{_nearest(text, choices)}")


def parse_int(name: str, value: object, low: int, high: int) -> int:
    """A whole number in ``low..high``."""
    text = str(value).strip()
    digits = text[1:] if text[:1] in "+-" else text
    if isinstance(value, (bool, float)) or not (digits.isascii() and digits.isdigit()):
        raise RequestError(f"{name} is '{text}', expected a whole number from {low} to {high}")
    number = int(text)
    if not low <= number <= high:
        raise RequestError(f"{name} is {number}, expected a whole number from {low} to {high}")
    return number


def parse_size(name: str, value: object) -> int:
    """Bytes from text: a bare number is KiB (as in CM_TENSORRT_WORKSPACE_SIZE), a suffix such as MiB or GB sets the unit."""
    text = _text(name, value).replace(" ", "")
    digits = text.rstrip("BKMGbkmgi")
    unit = _SIZE_UNITS.get(text[len(digits) :].lower())
    if unit is None or not (digits.isascii() and digits.isdigit()):
        raise RequestError(f"{name} is '{text}', expected a size such as 4194304 (KiB), 512MiB or 4GiB")
    size = int(digits) * unit
    if not MIN_WORKSPACE <= size < 2**48:
        raise RequestError(
            f"{name} is {size} bytes, expected at least {MIN_WORKSPACE >> 20} MiB (and less than 256 TiB)"
        )
    return size


def parse_target(name: str, value: object) -> str:
    """A comma-separated list of generations or compute capabilities in canonical form: 'portable', 'current', 'sm86+sm89'."""
    parts = [part.strip().lower() for part in _text(name, value).replace("+", ",").split(",") if part.strip()]
    choices = (*TARGETS, *COMPUTE_CAPABILITIES, *NATIVE_TARGETS[1:])
    wanted: set[str] = set()
    for part in (part.replace("-", "_") for part in parts):
        if part not in choices:
            raise RequestError(
                f"{name} is '{part}', expected one or more of {', '.join(choices)}{_nearest(part, choices)}"
            )
        wanted.update(TARGETS.get(part, (part,)) or (part,))
    if not wanted:
        raise RequestError(f"{name} is empty, expected one or more of {', '.join(choices)}")
    alone = wanted & {"portable", *NATIVE_TARGETS}
    if alone and len(wanted) > 1:
        raise RequestError(f"{name} joins '{sorted(alone)[0]}' with other targets; give it alone or leave it out")
    return "+".join(sorted(wanted, key=lambda t: int(t[2:]) if t.startswith("sm") else 0))


def parse_bool(name: str, value: object) -> bool:
    """yes/no, true/false, on/off, 1/0 or a Python bool."""
    if isinstance(value, bool):
        return value
    text = _text(name, value).lower()
    if text in ("yes", "true", "on", "1"):
        return True
    if text in ("no", "false", "off", "0"):
        return False
    raise RequestError(f"{name} is '{text}', expected yes or no")


def parse_path(name: str, value: object) -> str:
    """An absolute path; '~' is the home folder."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else _text(name, value)
    if "\0" in text:
        raise RequestError(f"{name} holds a NUL character, which no path can")
    return os.path.abspath(os.path.expanduser(text))


def parse_data(name: str, value: object) -> str:
    """An absolute path, or the word 'random'."""
    return RANDOM_DATA if str(value).strip().lower() == RANDOM_DATA else parse_path(name, value)


def _text(name: str, value: object) -> str:
    if isinstance(value, bool):
        raise RequestError(f"{name} was given without a value; write --{name}=VALUE, with the equals sign")
    text = str(value).strip()
    if not text:
        raise RequestError(f"{name} is empty; write --{name}=VALUE")
    return text


Parser = Callable[[str, object], Any]


def _choice(choices: tuple[str, ...]) -> Parser:
    return lambda name, value: parse_choice(name, value, choices)


def _whole(low: int, high: int) -> Parser:
    return lambda name, value: parse_int(name, value, low, high)


@dataclass(frozen=True, slots=True)
class Option:
    """One input: its name (field of BuildRequest), default, meaning, parser, and the choices where they are few."""

    name: str
    default: Any
    help: str
    parse: Parser
    choices: tuple[str, ...] = ()


def _choice_option(name: str, default: str | None, help: str, choices: tuple[str, ...]) -> Option:
    return Option(name, default, help, _choice(choices), choices)


OPTIONS: tuple[Option, ...] = (
    _choice_option("network", "resnet50", "MLPerf model to build", MODELS),
    _choice_option("device", "cpu", "where the build runs: cpu needs no GPU, cuda uses the local one", DEVICES),
    _choice_option(
        "builder", None, "what makes the engine (default: tensorrt-rtx on cpu, common-code on cuda)", BUILDERS
    ),
    _choice_option("precision", None, "arithmetic of the engine (default: fp16; common-code: int8)", PRECISIONS),
    _choice_option("scenario", "Offline", "MLPerf scenario the engine is named for", SCENARIOS),
    Option("batch_size", 1, "largest batch, in samples; the engine takes 1 up to this many", _whole(1, MAX_BATCH_SIZE)),
    Option("copy_streams", 1, "number of optimisation profiles, one per copy stream", _whole(1, MAX_COPY_STREAMS)),
    Option("model", None, "path of your own ONNX file instead of the MLPerf one", parse_path),
    Option("random_weights", None, "seed: build the exact topology with random weights, no file", _whole(0, MAX_SEED)),
    Option(
        "target",
        None,
        "GPUs the engine is for; tensorrt-rtx: comma-separated generations, "
        + ", ".join((*TARGETS, *COMPUTE_CAPABILITIES))
        + " (default: portable, the library's own set); tensorrt: "
        + ", ".join(NATIVE_TARGETS)
        + " (default: current, the local GPU)",
        parse_target,
    ),
    Option("workspace_size", "4GiB", "builder scratch limit: KiB, or with a suffix such as 4GiB", parse_size),
    _choice_option(
        "input_dtype", "fp32", "element type of the engine's input (int8: already quantized, for int8 engines)", INPUT_TYPES
    ),
    _choice_option("output_dtype", "fp32", "element type of the engine's floating-point outputs", FLOAT_TYPES),
    _choice_option(
        "input_range",
        "normalized",
        "retinanet: images the engine takes; 0-1 keeps the file's own normalisation inside",
        INPUT_RANGES,
    ),
    _choice_option(
        "postprocess",
        "tensors",
        "retinanet: outputs; boxes, scores and labels, or the 7001-float record of NVIDIA's harness, or none (raw heads)",
        POSTPROCESS,
    ),
    Option(
        "nms_offset",
        True,
        "retinanet: move classes apart before comparing boxes, as ONNX files do (no: PyTorch's way for many boxes)",
        parse_bool,
    ),
    Option(
        "calibration_data",
        None,
        "int8: folder of preprocessed float32 images (.npy or raw), or one tensor file; 'random' with random weights",
        parse_data,
    ),
    Option("calibration_list", None, "int8: text file of image names, the ones to calibrate with, in order", parse_path),
    Option("calibration_count", None, "int8: number of images to calibrate with (default: all, at most 500)", _whole(1, 10**6)),
    _choice_option(
        "calibration_method", None, "int8: how ranges are taken from images (default: entropy)", CALIBRATION_METHODS
    ),
    Option("calibration_cache", None, "int8: TensorRT calibration cache or our JSON, in place of images", parse_path),
    Option(
        "keep_fp16",
        None,
        "int8: layers to leave in float16; names, comma-separated, or a number of the worst, or auto",
        _text,
    ),
    Option("common_code", None, "common-code: NVIDIA's folder closed/NVIDIA of MLPerf results r2.1 to r6.0", parse_path),
    Option("inference_source", None, "common-code: clone of mlcommons/inference that NVIDIA's code needs", parse_path),
    Option(
        "builder_optimization_level",
        None,
        "tensorrt: 0 (build fast) to 5 (run fast); default: the library's",
        _whole(0, 5),
    ),
    _choice_option(
        "tiling_optimization_level", None, "tensorrt: how far to search for tilings; default: the library's", TILING_LEVELS
    ),
    Option(
        "max_aux_streams",
        None,
        "tensorrt: most streams the engine may use beside its own; default: the library's choice",
        _whole(0, MAX_AUX_STREAMS),
    ),
    Option("timing_cache", None, "tensorrt: file of kernel timings to reuse; default: one in the output folder", parse_path),
    Option("verify", True, "compare the engine's graph with the original model before publishing", parse_bool),
    Option("output_dir", "engines", "folder that engines are published in", parse_path),
)
OPTIONS_BY_NAME: Mapping[str, Option] = {option.name: option for option in OPTIONS}
_OPTIONS_OF_INT8 = (
    "calibration_data",
    "calibration_list",
    "calibration_count",
    "calibration_method",
    "calibration_cache",
    "keep_fp16",
)
_OPTIONS_OF_BUILDER = {
    "builder_optimization_level": "tensorrt",
    "tiling_optimization_level": "tensorrt",
    "max_aux_streams": "tensorrt",
    "timing_cache": "tensorrt",
}


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """A validated request; field by field what ``OPTIONS`` lists. Sizes in bytes, paths absolute."""

    network: str
    device: str
    builder: str
    precision: str
    scenario: str
    batch_size: int
    copy_streams: int
    model: str | None
    random_weights: int | None
    target: str
    workspace_size: int
    input_dtype: str
    output_dtype: str
    input_range: str
    postprocess: str
    nms_offset: bool
    calibration_data: str | None
    calibration_list: str | None
    calibration_count: int | None
    calibration_method: str | None
    calibration_cache: str | None
    keep_fp16: str | None
    common_code: str | None
    inference_source: str | None
    builder_optimization_level: int | None
    tiling_optimization_level: str | None
    max_aux_streams: int | None
    timing_cache: str | None
    verify: bool
    output_dir: str

    @classmethod
    def from_values(cls, values: Mapping[str, object]) -> BuildRequest:
        """A request from option values; absent and None mean the default. Raises RequestError."""
        for name in values:
            if name not in OPTIONS_BY_NAME:
                raise RequestError(f"there is no option '{name}'{_nearest(name, tuple(OPTIONS_BY_NAME))}")
        parsed: dict[str, Any] = {}
        for option in OPTIONS:
            value = values.get(option.name)
            if value is None:
                value = option.default
            parsed[option.name] = None if value is None else option.parse(option.name, value)
        parsed["builder"] = parsed["builder"] or ("tensorrt-rtx" if parsed["device"] == "cpu" else "common-code")
        parsed["precision"] = parsed["precision"] or ("int8" if parsed["builder"] == "common-code" else "fp16")
        parsed["target"] = parsed["target"] or ("portable" if parsed["builder"] == "tensorrt-rtx" else "current")
        request = cls(**parsed)
        request._check_combination()
        return request

    @staticmethod
    def values_from_json(text: str) -> dict[str, Any]:
        """Option values from what ``to_json`` wrote, or a subset of it. Raises RequestError."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise RequestError(f"the request is not JSON ({error})") from error
        if not isinstance(values, dict):
            raise RequestError(f"the request is JSON of type {type(values).__name__}, expected an object")
        if isinstance(values.get("workspace_size"), int):
            values["workspace_size"] = f"{values['workspace_size']}B"
        return values

    def to_json(self) -> str:
        """The request as one JSON object; ``workspace_size`` in bytes."""
        return json.dumps(asdict(self), indent=2, sort_keys=True)

    def summary(self) -> list[tuple[str, str]]:
        """Every effective option with its value as text, in the order of ``OPTIONS``."""
        return [(f.name, _shown(f.name, getattr(self, f.name))) for f in fields(self)]

    def _check_combination(self) -> None:
        if self.model is not None and self.random_weights is not None:
            raise RequestError("model and random_weights exclude each other; give one of them")
        self._check_detection_options()
        if self.device == "cpu" and self.builder != "tensorrt-rtx":
            raise RequestError(
                f"builder {self.builder} needs a GPU; select the device cuda (_cuda) or the builder tensorrt-rtx"
            )
        self._check_int8_options()
        self._check_builder_options()

    def _check_int8_options(self) -> None:
        """Calibration belongs to int8 engines that this package quantizes itself (NVIDIA's code calibrates on its own)."""
        if self.precision == "int8" and self.builder != "common-code":
            if "sm75" in self.target.split("+"):
                raise RequestError(
                    "target holds sm75 (turing), for which TensorRT-RTX builds no int8 networks; leave it out or use fp16"
                )
            return
        for name in (*_OPTIONS_OF_INT8, *(["input_dtype"] if self.input_dtype == "int8" else [])):
            if getattr(self, name) is not None and not (name == "input_dtype" and self.builder == "common-code"):
                raise RequestError(
                    f"{name}={getattr(self, name)} is for precision int8 with the builders tensorrt-rtx and tensorrt; "
                    f"got {self.precision} with {self.builder}: leave it out"
                )

    def _check_builder_options(self) -> None:
        """Options of one builder are refused with another; a target must be one of the builder's."""
        for name, builder in _OPTIONS_OF_BUILDER.items():
            if getattr(self, name) is not None and self.builder != builder:
                raise RequestError(f"{name} is for the builder {builder}, not {self.builder}; leave it out")
        rtx = self.target not in NATIVE_TARGETS[1:]
        native = NATIVE_TARGETS if self.builder == "tensorrt" else NATIVE_TARGETS[:1]
        if not (rtx if self.builder == "tensorrt-rtx" else self.target in native):
            expected = f"{', '.join(TARGETS)} or compute capabilities" if self.builder == "tensorrt-rtx" else ", ".join(native)
            raise RequestError(f"target is '{self.target}', expected {expected} with the builder {self.builder}")

    def _check_detection_options(self) -> None:
        if self.network != "retinanet":
            for name in ("input_range", "postprocess", "nms_offset"):
                if getattr(self, name) != OPTIONS_BY_NAME[name].default:
                    raise RequestError(f"{name} is for retinanet, not {self.network}; leave it out")
        elif self.postprocess != "none" and self.output_dtype != "fp32":
            raise RequestError(
                f"output_dtype {self.output_dtype} cannot hold boxes: float16 steps are half a pixel at 800; use fp32"
            )


def _shown(name: str, value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name == "workspace_size" and isinstance(value, int):
        return f"{value / KIB**2:g} MiB"
    return str(value)
