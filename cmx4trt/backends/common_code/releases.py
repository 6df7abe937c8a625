"""Releases of NVIDIA's MLPerf Inference code (``closed/NVIDIA`` of the results repositories) as one table.

Taken from the sources of the releases, r2.1 to r6.0. NVIDIA's parsers ignore unknown flags, so a misspelled one would silently
build something else: all flags come from here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cmx4trt.backends.options import BuildOptions
from cmx4trt.base.files import open_text
from cmx4trt.errors import RequestError, UnsupportedError

_ENGINES = "build/engines/{system}"
_INTEGER_PATH = _ENGINES + "/{model}/{scenario}/{model}-{scenario}-gpu-b{batch}-{precision}.lwis_k_99_MaxP.plan"
_COMPONENT_PATH = (
    _ENGINES + "/{model}/{scenario}/{model}-{scenario}-gpu-{model}-b{batch}-{precision}.lwis_k_99_MaxP.plan"
)
_WORKLOAD_PATH = _ENGINES + "/{scenario}/{model}/gpu-{model}-{precision}-b{batch}.cp990.plan"
_CONCAT_PLUGIN = "build/plugins/retinanetConcatPlugin/libretinanetconcatplugin.so"
_NMS_PLUGIN = "build/plugins/NMSOptPlugin/libnmsoptplugin.so"
_RESNET50_FILE = "models/ResNet50/resnet50_v1.onnx"
_RETINANET_FOLDER = "models/retinanet-resnext50-32x4d"
_TORCH_FILE = f"{_RETINANET_FOLDER}/retinanet-fpn-torch2.1-postprocessed.onnx"
_INT8 = ("int8",)
_ALL = ("int8", "fp16", "fp32")
_SUBMISSION = "build/inference/tools/submission"

NMS_WORKSPACE = 12_500_000_000
"""Minimum number of bytes for NVIDIA's NMSOptPlugin (comment in v5.1's configs/minimal/Offline/retinanet.py)."""
MULTISTREAM_SAMPLES = 8
"""Samples per query of the scenario MultiStream (MLPerf Inference rules); r2.1 and r3.0 require the batch size to divide it."""


@dataclass(frozen=True, slots=True)
class Release:
    """How one release is invoked and what it needs; paths are relative to the checkout, those of models to the scratch space."""

    name: str
    component_batches: bool
    """Batch sizes are ``<component>:<n>``; otherwise integers."""
    gpu_flag: str
    engine_path: str
    precisions: Mapping[str, tuple[str, ...]]
    models: Mapping[str, str]
    plugins: Mapping[str, tuple[str, ...]]
    inference_source: str
    """Where it looks for a clone of mlcommons/inference."""
    inference_files: tuple[str, ...]
    """One of these must exist in the clone, because it is imported (none: the clone is sufficient)."""
    pythons: tuple[str, ...] = ("python3",)
    """Interpreters in the order in which its Makefile prefers them."""
    workspaces: Mapping[str, int] = field(default_factory=lambda: {"retinanet": NMS_WORKSPACE})
    """Minimum number of bytes for a network's plugin."""
    strict_streams: bool = False
    """The builder itself forces the batch of SingleStream to 1, and that of MultiStream to a divisor of 8."""
    needs_loadgen: bool = False
    workload_configs: tuple[str, ...] = ()
    """One of these configuration files must exist."""
    extra_folders: tuple[str, ...] = ()

    def flags(self, request: BuildOptions) -> list[str]:
        """The arguments for ``make generate_engines RUN_ARGS=…``."""
        batch = f"{request.network}:{request.batch_size}" if self.component_batches else str(request.batch_size)
        input_dtype = "int8" if request.precision == "int8" else request.precision
        return [
            f"--benchmarks={request.network}",
            f"--scenarios={request.scenario}",
            self.gpu_flag,
            f"--gpu_batch_size={batch}",
            f"--gpu_copy_streams={request.copy_streams}",
            f"--workspace_size={request.workspace_size}",
            f"--precision={request.precision}",
            f"--input_dtype={input_dtype}",
            "--input_format=linear",
        ]

    def engine(self, request: BuildOptions, system: str) -> str:
        """The path, relative to the checkout, of the engine that these flags build on the system with this id."""
        return self.engine_path.format(
            system=system,
            model=request.network,
            scenario=request.scenario,
            batch=request.batch_size,
            precision=request.precision,
        )

    def check(self, request: BuildOptions) -> None:
        """Reject what this release cannot build. Raises UnsupportedError, RequestError."""
        precisions = self.precisions[request.network]
        if request.precision not in precisions:
            raise UnsupportedError(
                f"NVIDIA's code {self.name} cannot build {request.network} in precision {request.precision}, "
                f"expected {' or '.join(precisions)}; use _int8, or _tensorrt for other precisions"
            )
        least = self.workspaces.get(request.network, 0)
        if request.workspace_size < least:
            raise RequestError(
                f"workspace_size is {request.workspace_size} bytes, expected at least {least} "
                f"for the plugin of {request.network} in NVIDIA's code {self.name}; give --workspace_size=16GiB"
            )
        self._check_batch(request)

    def _check_batch(self, request: BuildOptions) -> None:
        if not self.strict_streams:
            return
        if request.scenario == "SingleStream" and request.batch_size != 1:
            raise RequestError(
                f"batch_size is {request.batch_size}, expected 1: NVIDIA's code {self.name} builds nothing else for SingleStream"
            )
        if request.scenario == "MultiStream" and MULTISTREAM_SAMPLES % request.batch_size:
            raise RequestError(
                f"batch_size is {request.batch_size}, expected a divisor of {MULTISTREAM_SAMPLES} for MultiStream with "
                f"NVIDIA's code {self.name}"
            )


def _models(retinanet: str) -> dict[str, str]:
    return {"resnet50": _RESNET50_FILE, "retinanet": retinanet}


_R21 = Release(
    name="r2.1",
    component_batches=False,
    gpu_flag="--gpu_only",
    engine_path=_INTEGER_PATH,
    precisions={"resnet50": _ALL, "retinanet": _ALL},
    models=_models(
        f"{_RETINANET_FOLDER}/submission/retinanet_resnext50_32x4d_efficientNMS.800x800.onnx",
    ),
    plugins={"retinanet": (_CONCAT_PLUGIN,)},
    inference_source="build/inference",
    inference_files=(f"{_SUBMISSION}/submission-checker.py",),
    pythons=("python3.8", "python3"),
    workspaces={},
    strict_streams=True,
)
_R30 = replace(
    _R21,
    name="r3.0",
    precisions={"resnet50": _ALL, "retinanet": _INT8},
    models=_models(f"{_RETINANET_FOLDER}/retinanet-fpn.onnx"),
    plugins={"retinanet": (_CONCAT_PLUGIN, _NMS_PLUGIN)},
    inference_files=(f"{_SUBMISSION}/submission_checker.py", f"{_SUBMISSION}/submission_checker/__init__.py"),
    workspaces={"retinanet": NMS_WORKSPACE},
)
_R31 = replace(
    _R30,
    name="r3.1",
    precisions={"resnet50": _INT8, "retinanet": _INT8},
    models=_models(_TORCH_FILE),
    pythons=("python3",),
    strict_streams=False,
)
_R40 = replace(_R31, name="r4.0")
_R41 = replace(_R40, name="r4.1", component_batches=True, engine_path=_COMPONENT_PATH)
_R50 = replace(_R41, name="r5.0")
_R51 = replace(
    _R50,
    name="r5.1",
    gpu_flag="--device_types=gpu",
    engine_path=_WORKLOAD_PATH,
    inference_files=(),
    needs_loadgen=True,
    workload_configs=("configs/{system}/{scenario}/{model}.py", "configs/minimal/{scenario}/{model}.py"),
)
_R60 = replace(_R51, name="r6.0", inference_source="3rdparty/mlc-inference", extra_folders=("3rdparty/trtllm",))
RELEASES = (_R21, _R30, _R31, _R40, _R41, _R50, _R51, _R60)


def release_of(folder: str) -> Release:
    """The release whose files are in ``folder`` (closed/NVIDIA); its version file only distinguishes releases that build alike.

    Raises UnsupportedError for anything else.
    """
    if not os.path.isfile(os.path.join(folder, "Makefile")) or not os.path.isdir(
        os.path.join(folder, "code", "common")
    ):
        raise UnsupportedError(
            f"{folder} contains no NVIDIA code that this package supports (r2.1 to r6.0), expected a Makefile and code/common; "
            "give --common_code=PATH of closed/NVIDIA"
        )
    if os.path.isfile(os.path.join(folder, "code", "main_v2.py")):
        return _R21
    if os.path.isfile(os.path.join(folder, "code", "fields", "models.py")):
        return _R60 if os.path.isdir(os.path.join(folder, "src")) else _R51
    fields = _text(folder, "code/common/fields.py")
    if "must follow the format of component1" in fields:
        return _R50 if "engine_dir" in fields else _R41
    if "retinanet-fpn.onnx" in _text(folder, "code/retinanet/tensorrt/Retinanet.py"):
        return _R30
    return _R40 if _text(folder, "VERSION").strip().startswith("v4") else _R31


def _text(folder: str, path: str) -> str:
    try:
        with open_text(os.path.join(folder, path), errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""
