"""Verifies an engine itself, on the GPU, against the original model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cmx4trt.errors import VerificationError
from cmx4trt.manifest import FAILED
from cmx4trt.request import BuildRequest
from cmx4trt.verify import Verification

if TYPE_CHECKING:
    from cmx4trt.backends.base import BuiltEngine
    from cmx4trt.backends.session import Session


def execute_engine(
    engine: BuiltEngine, title: str, request: BuildRequest, judge: Callable[[Session], Verification]
) -> dict[str, Any]:
    """Run ``engine``, one of the network ``title``, on the local GPU and have it judged; returns the manifest's record of it.

    Raises VerificationError where it disagrees, DeviceError where the GPU refuses it.
    """
    from cmx4trt.backends import execution_library
    from cmx4trt.backends.tensorrt.session import TensorRTSession
    from cmx4trt.devices.driver import open_device

    device = open_device()
    session = TensorRTSession(execution_library(request.builder, device.gpu), engine.data, device)
    try:
        found = judge(session)
    finally:
        session.close()
    if found.verdict == FAILED:
        raise VerificationError(
            f"the engine of {title}, run by {session.device}, disagrees with the original model: "
            f"{found.sentence()}; no engine was published"
        )
    reference = "the float32 graph" if request.precision == "int8" else "the original model"
    method = f"the engine on the GPU against {reference} in ONNX Runtime"
    return {"engine_executed_on_a_device": "yes", "device": session.device, **found.to_dict(), "method": method}
