"""TensorRT-RTX and TensorRT: two variants of one library, which build engines and run them. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cmx4trt.backends.base import Backend, GraphBuilder
from cmx4trt.backends.facts import CmNeeds
from cmx4trt.backends.options import BuildOptions
from cmx4trt.backends.targets import Targets, number_of
from cmx4trt.backends.tensorrt.options import TensorRTOptions
from cmx4trt.devices.cards import CAPABILITIES
from cmx4trt.errors import RequestError

if TYPE_CHECKING:
    from cmx4trt.sessions.base import Session

COMPUTE_CAPABILITIES = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
"""What TensorRT-RTX 1.7 can compile for (its enumeration ``ComputeCapability``)."""
_LOCAL = "the GPU of the machine that built it"


class TensorRTRTX(Backend):
    """Engines for RTX-class GPUs, built with or without one."""

    name = "tensorrt-rtx"
    title = "TensorRT-RTX"
    about = "TensorRT-RTX, ahead of time, for RTX-class GPUs"
    devices: Mapping[str, str] = {
        "cpu": "built ahead of time",
        "cuda": "built ahead of time, then run on the local GPU",
    }
    default_on = ("cpu",)
    serves = COMPUTE_CAPABILITIES
    targets = Targets(
        names={
            "portable": (),
            "turing": ("sm75",),
            "ampere": ("sm80", "sm86"),
            "ada": ("sm89",),
            "blackwell": ("sm120", "sm121"),
            "current": (),
        },
        default="portable",
        default_note="the library's own set",
        capabilities=COMPUTE_CAPABILITIES,
        summary="comma-separated GPU generations, compute capabilities or card names, ",
        examples=", L40S, 'RTX 4090', …",
        covers={
            "portable": COMPUTE_CAPABILITIES[1:]
        },  # Turing must be requested explicitly (the library's documentation)
        meanings={"portable": "all RTX-class GPUs that the builder supports (target: portable)", "current": _LOCAL},
    )

    def builder(self) -> GraphBuilder:
        """A builder that imports ``tensorrt_rtx`` when it builds."""
        from cmx4trt.backends.tensorrt.rtx import TensorRTRTXBuilder

        return TensorRTRTXBuilder()

    def load(self) -> None:
        """The library; where it is missing, the builder says so."""
        from cmx4trt.backends.tensorrt.rtx import load_tensorrt_rtx

        load_tensorrt_rtx()

    def open_session(self, engine: Any, cuda_graphs: bool = False, gpu: int = 0) -> Session:
        """A session on a local GPU that TensorRT-RTX supports."""
        from cmx4trt.backends.tensorrt.rtx import check_gpu, import_tensorrt_rtx
        from cmx4trt.backends.tensorrt.session import TensorRTSession
        from cmx4trt.devices.driver import open_device

        device = open_device(gpu)
        check_gpu(device.gpu)
        return TensorRTSession(import_tensorrt_rtx(), engine, device, cuda_graphs)

    def count_gpus(self) -> int:
        """The number of GPUs that the driver reports."""
        return _count_gpus()

    def check_request(self, request: BuildOptions) -> None:
        """The library builds no int8 networks for Turing. Raises RequestError."""
        if request.precision == "int8" and "sm75" in request.target.split("+"):
            raise RequestError(
                "target includes sm75 (turing), for which TensorRT-RTX builds no int8 networks; omit it or use fp16"
            )


class TensorRT(Backend):
    """Engines built by native TensorRT 10 or 11 on the local GPU."""

    name = "tensorrt"
    title = "TensorRT"
    about = "The installed TensorRT, on the local GPU"
    devices: Mapping[str, str] = {"cuda": "built and run on the local GPU"}
    targets = Targets(
        names={"current": (), "same_compute_capability": (), "ampere_plus": ()},
        default="current",
        default_note="the local GPU",
        meanings={"current": _LOCAL},
    )
    serves = tuple(sm for sm in CAPABILITIES if sm not in ("sm60", "sm61", "sm70"))  # TensorRT 10.5 dropped Volta
    own_options = TensorRTOptions
    cm = CmNeeds(modules={"TENSORRT": "tensorrt"})

    def builder(self) -> GraphBuilder:
        """A builder that imports ``tensorrt`` when it builds."""
        from cmx4trt.backends.tensorrt.native import TensorRTBuilder

        return TensorRTBuilder()

    def open_session(self, engine: Any, cuda_graphs: bool = False, gpu: int = 0) -> Session:
        """A session on a local GPU."""
        return open_native(engine, cuda_graphs, gpu)

    def count_gpus(self) -> int:
        """The number of GPUs that the driver reports."""
        return _count_gpus()

    def fits(self, target: str, capability: str) -> bool:
        """Only ampere_plus defines its GPUs; any other target depends on the machine that built the engine."""
        return target != "ampere_plus" or number_of(capability) >= number_of("sm80")


def _count_gpus() -> int:
    from cmx4trt.devices.driver import local_gpu

    return local_gpu().visible


def open_native(engine: Any, cuda_graphs: bool = False, gpu: int = 0) -> Session:
    """A session of native TensorRT on the bytes of an engine. Raises DeviceError, MissingSoftwareError."""
    from cmx4trt.backends.tensorrt.native import import_tensorrt
    from cmx4trt.backends.tensorrt.session import TensorRTSession
    from cmx4trt.devices.driver import open_device

    device = open_device(gpu)
    return TensorRTSession(import_tensorrt(), engine, device, cuda_graphs)


BACKENDS: tuple[Backend, ...] = (TensorRTRTX(), TensorRT())
