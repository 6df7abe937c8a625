"""Verifies an engine itself, on the GPU, against the original model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cmx4trt.errors import VerificationError
from cmx4trt.request import BuildRequest
from cmx4trt.verify import OriginalMessage, verify_graph

if TYPE_CHECKING:
    from cmx4trt.builders.base import BuiltEngine
    from cmx4trt.graph.network import PreparedGraph


def execute_engine(
    engine: BuiltEngine, graph: PreparedGraph, original: OriginalMessage, request: BuildRequest
) -> dict[str, Any]:
    """Run ``engine`` on the local GPU and hold it to the limits of its graph; returns the manifest's record of it.

    Raises VerificationError where it disagrees, DeviceError where the GPU refuses it.
    """
    from cmx4trt.builders import execution_library
    from cmx4trt.runtimes.cuda import open_device
    from cmx4trt.runtimes.tensorrt import TensorRTSession

    device = open_device()
    session = TensorRTSession(execution_library(request.builder, device.gpu), engine.data, device)
    try:
        verification = verify_graph(graph, original, request, session)
    finally:
        session.close()
    if not verification.passed:
        raise VerificationError(
            f"the engine of {graph.spec.title}, run by {session.device}, disagrees with the original model: "
            f"{verification.sentence()}; no engine was published"
        )
    measured = {**verification.to_dict(), "method": "the engine on the GPU against the original model in ONNX Runtime"}
    return {"engine_executed_on_a_device": "yes", "device": session.device, **measured}
