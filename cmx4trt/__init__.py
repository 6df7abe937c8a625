"""cmx4trt: TensorRT engines of MLPerf Inference models with one command, on any machine.

    from cmx4trt import BuildRequest, build
    result = build(BuildRequest.from_values({"network": "resnet50", "random_weights": 0}))

The public names are those of ``__all__``; they are loaded when first used, so that ``import cmx4trt`` stays light.
What is promised of them: docs/reference/python-api.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmx4trt import errors as errors
    from cmx4trt.manifest import Manifest as Manifest
    from cmx4trt.pipeline import build as build
    from cmx4trt.pipeline import plan as plan
    from cmx4trt.progress import Progress as Progress
    from cmx4trt.proof import Proof as Proof
    from cmx4trt.proof import bench_engine as bench_engine
    from cmx4trt.proof import verify_engine as verify_engine
    from cmx4trt.proof_request import ProofRequest as ProofRequest
    from cmx4trt.request import BuildRequest as BuildRequest
    from cmx4trt.results import BuildResult as BuildResult
    from cmx4trt.results import Plan as Plan

__version__ = "0.1.0"

_MODULES = {
    "BuildRequest": "cmx4trt.request",
    "BuildResult": "cmx4trt.results",
    "Manifest": "cmx4trt.manifest",
    "Plan": "cmx4trt.results",
    "Progress": "cmx4trt.progress",
    "Proof": "cmx4trt.proof",
    "ProofRequest": "cmx4trt.proof_request",
    "bench_engine": "cmx4trt.proof",
    "build": "cmx4trt.pipeline",
    "errors": "cmx4trt.errors",
    "plan": "cmx4trt.pipeline",
    "verify_engine": "cmx4trt.proof",
}
"""Public name -> the module that holds it, or is it."""

__all__ = [
    "BuildRequest",
    "BuildResult",
    "Manifest",
    "Plan",
    "Progress",
    "Proof",
    "ProofRequest",
    "__version__",
    "bench_engine",
    "build",
    "errors",
    "plan",
    "verify_engine",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'cmx4trt' has no attribute '{name}'")
    from importlib import import_module

    module = import_module(_MODULES[name])
    return module if module.__name__ == f"cmx4trt.{name}" else getattr(module, name)
