"""Verifies a classifier: opens both graphs in ONNX Runtime and has their numbers compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmx4trt.ir.model import DType
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.networks.resnet50.onnx_import import ClassifierDetails
from cmx4trt.request import BuildRequest
from cmx4trt.sessions.onnxruntime import CPU, OnnxRuntimeSession
from cmx4trt.verify.numerics import RELATIVE_L2_LIMITS, Comparison, compare_classifiers

if TYPE_CHECKING:
    from cmx4trt.graph.network import PreparedGraph
    from cmx4trt.sessions.base import Session
    from cmx4trt.verify import OriginalMessage


def verify_classifier(
    graph: PreparedGraph, original: OriginalMessage, request: BuildRequest, engine: Session | None = None
) -> Comparison:
    """Logits and classes of both. A float16 file is held to float16's limit, whatever precision is built from it."""
    details = graph.details
    assert isinstance(details, ClassifierDetails)
    file = original(details.reference_output)
    reference = OnnxRuntimeSession.from_bytes(file.message, constants=file.constants)
    limit = max(RELATIVE_L2_LIMITS[request.precision], RELATIVE_L2_LIMITS[details.source_precision])
    prepared = engine or open_prepared(graph)
    return compare_classifiers(reference, prepared, details.reference_output, graph.spec.input_shape, limit)


def open_prepared(graph: PreparedGraph, providers: tuple[str, ...] = CPU) -> OnnxRuntimeSession:
    """A session on the bytes given to the builder; bfloat16, for which the CPU has no kernels, is emulated by rounding."""
    if any(tensor.dtype is DType.BFLOAT16 for tensor in graph.model.graph.initializers.values()):
        from cmx4trt.graph.precision import emulate_bfloat16

        return OnnxRuntimeSession.from_graph(encode_model(emulate_bfloat16(graph.model)), providers)
    return OnnxRuntimeSession.from_graph(graph.encoded, providers)
