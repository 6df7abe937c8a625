"""cmx4trt: TensorRT engines of MLPerf Inference models with one command, on any machine.

    from cmx4trt import BuildRequest, build
    result = build(BuildRequest.from_values({"network": "resnet50", "random_weights": 0}))

The public names are loaded when first used: ``import cmx4trt`` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmx4trt.pipeline import build as build
    from cmx4trt.request import BuildRequest as BuildRequest
    from cmx4trt.results import BuildResult as BuildResult

__version__ = "0.1.0"

_PUBLIC = {"BuildRequest": "cmx4trt.request", "BuildResult": "cmx4trt.results", "build": "cmx4trt.pipeline"}
__all__ = ["BuildRequest", "BuildResult", "__version__", "build"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'cmx4trt' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_PUBLIC[name]), name)
