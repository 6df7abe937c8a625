"""What the conditions of the dependencies in _cm.yaml look at, and what dependencies brought. Standard library only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any

from cmx4trt.backends import all_backends, backend_of
from cmx4trt.base.values import absolute_path
from cmx4trt.errors import ModelError
from cmx4trt.frameworks.base import Framework
from cmx4trt.requests.build import BuildRequest

_HAVE = "CMX4TRT_HAVE_"
_LIBRARIES = {"NUMPY": "numpy", "BLAKE3": "blake3", "PYCUDA": "pycuda", "LOADGEN": "mlperf_loadgen"}
"""Modules that a dependency brings where they are missing, by the end of their CMX4TRT_HAVE_ key; backends add theirs."""


def keys_for_dependencies(
    request: BuildRequest, dry_run: bool, own_python: bool, mapping: Mapping[str, str]
) -> dict[str, str]:
    """What the conditions of the dependencies in _cm.yaml look at, in the spelling they use."""
    keys = {
        mapping["network"]: request.network,
        mapping["device"]: "gpu" if request.device == "cuda" else request.device,
        mapping["builder"]: request.builder,
        mapping["precision"]: request.precision,
        "CMX4TRT_CHOSEN_BUILDER": request.builder,
        "CMX4TRT_CHOSEN_PRECISION": request.precision,
        mapping["batch_size"]: str(request.batch_size),
        mapping["copy_streams"]: str(request.copy_streams),
        mapping["scenario"]: request.scenario,
        mapping["output_dir"]: request.output_dir,
        mapping["dry_run"]: "yes" if dry_run else "no",
    }
    have = {name: there(request) for name, there in _inputs().items()}
    if own_python:  # another one is asked by the dependency itself
        have.update({name: _is_installed(module) for name, module in _libraries().items()})
    return {**keys, **{_HAVE + name: "yes" for name, there in have.items() if there}}


def have_keys() -> frozenset[str]:
    """The keys that may say of a dependency that it is not needed."""
    return frozenset(_HAVE + name for name in (*_inputs(), *_libraries()))


def _inputs() -> dict[str, Callable[[BuildRequest], bool]]:
    """End of a key -> whether a request has what the dependency would fetch."""
    paths = [name for one in all_backends() for name in one.cm.paths]
    return {
        "MODEL": lambda request: not _fetches_model(request),
        "CALIBRATION": _needs_no_calibration,
        **{name.upper(): partial(_names_path, name) for name in paths},
    }


def _needs_no_calibration(request: BuildRequest) -> bool:
    """Images of the data set say nothing about random weights."""
    given = request.calibration_data is not None or request.calibration_cache is not None
    return given or request.random_weights is not None


def _names_path(name: str, request: BuildRequest) -> bool:
    return request.value(name) is not None


def _libraries() -> dict[str, str]:
    return _LIBRARIES | {name: module for one in all_backends() for name, module in one.cm.modules.items()}


def _is_installed(module: str) -> bool:
    """Whether a module can be imported; a folder that only holds type stubs cannot."""
    spec = find_spec(module)
    return spec is not None and spec.origin is not None


def with_dependencies(framework: Framework, request: BuildRequest, env: Mapping[str, Any]) -> BuildRequest:
    """The request with what the dependencies fetched for it. Raises ModelError."""
    paths: dict[str, Any] = {}
    if _fetches_model(request):
        key = framework.key("ML_MODEL_FILE_WITH_PATH")
        paths["model"] = env.get(key)
        if not paths["model"]:
            raise ModelError(
                f"the dependency get,ml-model,{request.network} provided no file ({key}); give your own with --model=PATH"
            )
    backend = backend_of(request.builder)
    for option, key in backend.cm.paths.items():
        paths[option] = request.value(option) or env.get(framework.spelt(key))
    calibrated = request.calibration_data is not None or request.calibration_cache is not None
    if request.precision == "int8" and backend.quantizes and not calibrated:
        paths["calibration_data"] = env.get(framework.key("DATASET_PREPROCESSED_PATH"))
    found: dict[str, Any] = {name: absolute_path(path) for name, path in paths.items() if path}
    return request.changed(found)


def _fetches_model(request: BuildRequest) -> bool:
    """Whether CM's get,ml-model brings the model; NVIDIA's code builds RetinaNet only from the file it exports itself."""
    own = request.model is not None or request.random_weights is not None
    return not own and request.network not in backend_of(request.builder).cm.own_models
