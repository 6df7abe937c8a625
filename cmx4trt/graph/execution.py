"""Prepared graphs in ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmx4trt.ir.model import DType
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.sessions.onnxruntime import CPU, OnnxRuntimeSession

if TYPE_CHECKING:
    from cmx4trt.graph.network import PreparedGraph


def open_prepared(graph: PreparedGraph, providers: tuple[str, ...] = CPU) -> OnnxRuntimeSession:
    """A session on the bytes given to the builder; bfloat16, for which the CPU has no kernels, is emulated by rounding."""
    if any(tensor.dtype is DType.BFLOAT16 for tensor in graph.model.graph.initializers.values()):
        from cmx4trt.graph.precision import emulate_bfloat16

        return OnnxRuntimeSession.from_graph(encode_model(emulate_bfloat16(graph.model)), providers)
    return OnnxRuntimeSession.from_graph(graph.encoded, providers)
