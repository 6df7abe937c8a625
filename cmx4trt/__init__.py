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
    from cmx4trt.base.progress import Progress as Progress
    from cmx4trt.pipeline.build import build as build
    from cmx4trt.pipeline.evaluate import bench_engine as bench_engine
    from cmx4trt.pipeline.evaluate import verify_engine as verify_engine
    from cmx4trt.pipeline.evaluation import Evaluation as Evaluation
    from cmx4trt.pipeline.plan import plan as plan
    from cmx4trt.pipeline.result import BuildResult as BuildResult
    from cmx4trt.pipeline.result import Plan as Plan
    from cmx4trt.requests.build import BuildRequest as BuildRequest
    from cmx4trt.requests.evaluation import EvaluationRequest as EvaluationRequest
    from cmx4trt.requests.evaluation_options import EvaluationOptions as EvaluationOptions
    from cmx4trt.store.manifest import Manifest as Manifest

__version__ = "0.1.0"

_MODULES = {
    "BuildRequest": "cmx4trt.requests.build",
    "BuildResult": "cmx4trt.pipeline.result",
    "Manifest": "cmx4trt.store.manifest",
    "Plan": "cmx4trt.pipeline.result",
    "Progress": "cmx4trt.base.progress",
    "Evaluation": "cmx4trt.pipeline.evaluation",
    "EvaluationOptions": "cmx4trt.requests.evaluation_options",
    "EvaluationRequest": "cmx4trt.requests.evaluation",
    "bench_engine": "cmx4trt.pipeline.evaluate",
    "build": "cmx4trt.pipeline.build",
    "errors": "cmx4trt.errors",
    "plan": "cmx4trt.pipeline.plan",
    "verify_engine": "cmx4trt.pipeline.evaluate",
}
"""Public name -> the module that holds it, or is it."""

__all__ = [
    "BuildRequest",
    "BuildResult",
    "Evaluation",
    "EvaluationOptions",
    "EvaluationRequest",
    "Manifest",
    "Plan",
    "Progress",
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
