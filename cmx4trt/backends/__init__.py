"""The builders by name; a builder's module is imported when it is chosen."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from cmx4trt.backends.base import GraphBuilder, ModelBuilder

if TYPE_CHECKING:
    from cmx4trt.backends.tensorrt.library import Library
    from cmx4trt.devices.driver import Gpu

_CLASSES = {
    "tensorrt-rtx": ("cmx4trt.backends.tensorrt.rtx", "TensorRTRTXBuilder"),
    "tensorrt": ("cmx4trt.backends.tensorrt.native", "TensorRTBuilder"),
    "common-code": ("cmx4trt.backends.common_code", "CommonCodeBuilder"),
}


def builder_for(name: str) -> GraphBuilder | ModelBuilder:
    """The builder called ``name`` (one of ``request.BUILDERS``)."""
    module, class_name = _CLASSES[name]
    return cast("GraphBuilder | ModelBuilder", getattr(import_module(module), class_name)())


def execution_library(name: str, gpu: Gpu) -> Library:
    """The module that runs engines of the builder ``name`` on ``gpu``.

    Raises MissingSoftwareError where it is not installed, DeviceError where it does not support the GPU.
    """
    if name == "tensorrt-rtx":
        from cmx4trt.backends.tensorrt import rtx

        rtx.check_gpu(gpu)
        return rtx.import_tensorrt_rtx()
    from cmx4trt.backends.tensorrt.native import import_tensorrt

    return import_tensorrt()
