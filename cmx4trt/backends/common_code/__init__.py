"""NVIDIA's own engine builder: ``make generate_engines`` of its MLPerf Inference code, from r2.1 to r6.0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cmx4trt.backends.base import Backend, ModelBuilder
from cmx4trt.backends.common_code.options import CommonCodeOptions
from cmx4trt.backends.facts import CmNeeds
from cmx4trt.backends.targets import Targets

if TYPE_CHECKING:
    from cmx4trt.sessions.base import Session


class CommonCode(Backend):
    """Engines that NVIDIA's code builds from the model file, with TensorRT and its own plugins."""

    name = "common-code"
    title = "NVIDIA's MLPerf code"
    about = "NVIDIA's own MLPerf code"
    devices: Mapping[str, str] = {"cuda": "built by NVIDIA's code on the local GPU"}
    default_on = ("cuda",)
    default_precision = "int8"
    targets = Targets(
        names={"current": ()}, default="current", meanings={"current": "the GPU of the machine that built it"}
    )
    own_options = CommonCodeOptions
    request_parts = ("tree_sha256",)
    quantizes = False
    calibrates_itself = True
    takes_graph = False
    cm = CmNeeds(
        paths={
            "common_code": "CM_MLPERF_INFERENCE_NVIDIA_CODE_PATH",
            "inference_source": "CM_MLPERF_INFERENCE_SOURCE",
        },
        own_models=("retinanet",),
    )

    def builder(self) -> ModelBuilder:
        """A builder that runs a checkout."""
        from cmx4trt.backends.common_code.build import CommonCodeBuilder

        return CommonCodeBuilder()

    def open_session(self, engine: Any, cuda_graphs: bool = False, gpu: int = 0) -> Session:
        """A session of native TensorRT, which built the engine."""
        from cmx4trt.backends.tensorrt import open_native

        return open_native(engine, cuda_graphs, gpu)

    def count_gpus(self) -> int:
        """The number of GPUs that the driver reports."""
        from cmx4trt.backends import backend_of

        return backend_of("tensorrt").count_gpus()


BACKENDS: tuple[Backend, ...] = (CommonCode(),)
