"""The options of a build: what every network and backend has is declared here, what one of them owns in its folder."""

from __future__ import annotations

from typing import Any

from cmx4trt import backends, networks
from cmx4trt.backends.facts import PRECISIONS
from cmx4trt.base.frozen import Frozen, replace
from cmx4trt.base.options import (
    GROUPS,
    INT8,
    OUTPUT,
    PATH,
    SIZE,
    TARGET,
    TENSORS,
    TEXT,
    WEIGHTS,
    WHAT,
    YES_NO,
    Option,
    choice,
    option,
    options_of,
    path_or,
    whole,
)
from cmx4trt.base.values import RANDOM_DATA

DEVICES = ("cpu", "cuda")
SCENARIOS = ("Offline", "Server", "SingleStream", "MultiStream")
FLOAT_TYPES = ("fp32", "fp16")
INPUT_TYPES = (*FLOAT_TYPES, "int8")
CALIBRATION_METHODS = ("minmax", "percentile", "entropy", "mse", "relative", "balanced")

MAX_BATCH_SIZE = 65536
MAX_COPY_STREAMS = 16
MAX_SEED = 2**32 - 1
WAIT_SECONDS = 3600
"""The same engine is built once: most builds take minutes, those that measure kernels up to an hour. A folder is locked while one
engine is written, which takes seconds."""
MAX_WAIT_SECONDS = 7 * 24 * 3600
_INT8_ONLY = ("int8",)


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


class GeneralOptions(Frozen):
    """What can be asked of every network and backend; the base of requests, of which alone there are instances.

    Sizes in bytes, paths absolute; None where nothing was given.
    """

    network: str = option(
        choice(networks.names),
        "MLPerf model to build",
        default=networks.names()[0],
        group=WHAT,
        cm_key="CM_MODEL",
        cm_variations=True,
    )
    device: str = option(
        choice(DEVICES),
        "where the build runs: cpu needs no GPU, cuda uses the local one",
        default="cpu",
        group=WHAT,
        cm_key="CM_MLPERF_DEVICE",
        cm_variations=True,
    )
    builder: str = option(
        choice(backends.names), _builder_help, group=WHAT, recorded="what built the engine", cm_variations=True
    )
    precision: str = option(
        choice(PRECISIONS), _precision_help, group=WHAT, recorded="compute precision", cm_variations=True
    )
    scenario: str = option(
        choice(SCENARIOS),
        "MLPerf scenario the engine is named for",
        default="Offline",
        group=WHAT,
        cm_key="CM_LOADGEN_SCENARIO",
    )
    batch_size: int = option(
        whole(1, MAX_BATCH_SIZE),
        "largest batch N, in samples; the engine has a dynamic batch, 1 to N",
        default=1,
        group=WHAT,
        cm_key="CM_MODEL_BATCH_SIZE",
        cm_note="; also set by the variation _batch_size.16",
    )
    copy_streams: int = option(
        whole(1, MAX_COPY_STREAMS),
        "number of optimization profiles, one per copy stream",
        default=1,
        group=WHAT,
        cm_key="CM_GPU_COPY_STREAMS",
        cm_note="; also set by the variation _copy_streams.2",
    )
    model: str | None = option(
        PATH,
        "path to your own ONNX file, instead of the MLPerf model",
        group=WEIGHTS,
        shapes_engine=False,  # its digest does, and the seed: the fingerprint's part 'source'
        cm_note="; e.g. --model=resnet50.onnx",
    )
    random_weights: int | None = option(
        whole(0, MAX_SEED),
        "seed (an integer) of random weights: the exact topology, without a model file",
        group=WEIGHTS,
        shapes_engine=False,
        cm_note="; also set by the variation _random-weights.7",
    )
    target: str = option(
        TEXT,  # what it may be depends on the backend: backends.parse_target
        _target_help,
        group=TARGET,
        recorded="target GPUs; several joined by `+`",
        cm_note="; e.g. --target=ampere,ada",
    )
    workspace_size: int = option(
        SIZE,
        "workspace of the builder, its limit of scratch memory: in KiB, or with a suffix such as 4GiB",
        default="4GiB",
        group=TARGET,
        recorded="limit of the builder's scratch memory, bytes",
        cm_key="CM_TENSORRT_WORKSPACE_SIZE",
        cm_default="4194304",
    )
    input_dtype: str = option(
        choice(INPUT_TYPES),
        "data type of the engine's input (int8: quantized by the caller; for int8 engines)",
        default="fp32",
        group=TENSORS,
    )
    output_dtype: str = option(
        choice(FLOAT_TYPES), "data type of the engine's floating-point outputs", default="fp32", group=TENSORS
    )
    calibration_data: str | None = option(
        path_or(RANDOM_DATA),
        "folder of preprocessed float32 images (.npy or raw), or one tensor file; random: synthetic, for random weights",
        group=INT8,
        precisions=_INT8_ONLY,
        shapes_engine=False,  # the digest of the images does, or of the cache: the fingerprint's part 'calibration'
    )
    calibration_list: str | None = option(
        PATH,
        "text file with the names of the calibration images, in order",
        group=INT8,
        precisions=_INT8_ONLY,
        shapes_engine=False,
    )
    calibration_count: int | None = option(
        whole(1, 10**6),
        "number of calibration images (default: all, at most 500)",
        group=INT8,
        precisions=_INT8_ONLY,
        shapes_engine=False,
    )
    calibration_method: str | None = option(
        choice(CALIBRATION_METHODS),
        "how ranges are computed from the images (default: relative)",
        group=INT8,
        precisions=_INT8_ONLY,
    )
    calibration_cache: str | None = option(
        PATH,
        "file of ranges, instead of images: a TensorRT calibration cache, or the JSON of cmx4trt calibrate",
        group=INT8,
        precisions=_INT8_ONLY,
        shapes_engine=False,
    )
    keep_fp16: str | None = option(
        TEXT,
        "layers to keep in float16: comma-separated names, a number N (the N most sensitive layers), or auto",
        group=INT8,
        precisions=_INT8_ONLY,
    )
    verify: bool = option(
        YES_NO,
        "compare the engine's graph with the original model before publishing",
        default=True,
        group=OUTPUT,
        shapes_engine=False,
    )
    report: bool = option(
        YES_NO,
        "write a report beside the engine, a single HTML file",
        default=True,
        group=OUTPUT,
        shapes_engine=False,
    )
    output_dir: str = option(
        PATH,
        "folder where engines are published, created if missing",
        default="engines",
        group=OUTPUT,
        shapes_engine=False,
        cm_key="CM_MLPERF_OUTPUT_DIR",
        cm_note="; relative to the current folder",
    )
    wait: int = option(
        whole(0, MAX_WAIT_SECONDS),
        "maximum time to wait while another process builds the same engine or writes to the output folder, in seconds",
        default=WAIT_SECONDS,
        group=OUTPUT,
        shapes_engine=False,
    )


GENERAL_OPTIONS = options_of(GeneralOptions)


def own_options() -> tuple[Option, ...]:
    """The options that networks and backends own, each once; of several owners all are named."""
    found: dict[str, Option] = {}
    of_networks = (one for network in networks.all_networks() for one in network.options)
    of_backends = (one for backend in backends.all_backends() for one in backend.options)
    for one in (*of_networks, *of_backends):
        before = found.get(one.name)
        found[one.name] = replace(one, applies_to=f"{before.applies_to}, {one.applies_to}") if before else one
    return tuple(found.values())


def build_options() -> tuple[Option, ...]:
    """All options of a build, in the order of the help."""
    everything = (*GENERAL_OPTIONS, *own_options())
    more = dict.fromkeys(one.group for one in everything if one.group not in (*GROUPS, OUTPUT))
    return tuple(one for group in (*GROUPS, *more, OUTPUT) for one in everything if one.group == group)


def schema_of_request() -> dict[str, Any]:
    """JSON Schema of what a manifest says of the request."""
    options = build_options()
    return {
        "description": "Every effective option of the build.",
        "type": "object",
        "properties": {one.name: one.schema() for one in options},
        "required": [one.name for one in options],
        "additionalProperties": False,
    }


def build_option(name: str) -> Option:
    """The option of a build called ``name``. Raises KeyError."""
    return {one.name: one for one in build_options()}[name]
