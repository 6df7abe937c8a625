"""Prepared graphs, and original models, in ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmx4trt.ir.decoding import ExternalData
from cmx4trt.ir.model import DType, Tensor
from cmx4trt.ir.onnx_file import EncodedGraph, decode_model, encode_model
from cmx4trt.sessions.onnxruntime import CPU, OnnxRuntimeSession

if TYPE_CHECKING:
    from cmx4trt.graph.network import PreparedGraph


def open_prepared(graph: PreparedGraph, providers: tuple[str, ...] = CPU) -> OnnxRuntimeSession:
    """A session on the bytes given to the builder; bfloat16, for which the CPU has no kernels, is emulated by rounding."""
    if any(tensor.dtype is DType.BFLOAT16 for tensor in graph.model.graph.initializers.values()):
        from cmx4trt.graph.precision import emulate_bfloat16

        return OnnxRuntimeSession.from_graph(encode_model(emulate_bfloat16(graph.model)), providers)
    return OnnxRuntimeSession.from_graph(graph.encoded, providers)


def open_original(original: EncodedGraph, precision: str) -> OnnxRuntimeSession:
    """A session on a model as its file has it. ``precision``: what it computes in; bfloat16 is emulated, as above."""
    if precision != "bf16":
        return OnnxRuntimeSession.from_bytes(original.message, constants=original.constants)
    from cmx4trt.graph.passes import lift_constants
    from cmx4trt.graph.precision import emulate_bfloat16

    model = decode_model(original.message, _Given(original.constants))
    lift_constants(model.graph)
    return OnnxRuntimeSession.from_graph(encode_model(emulate_bfloat16(model)))


class _Given(ExternalData):
    """Constants that are in memory already."""

    def __init__(self, constants: dict[str, Tensor]) -> None:
        super().__init__(None, memoryview)  # type: ignore[arg-type]
        self._given = constants

    def fill(self, tensor: Tensor, location: dict[str, str], size: int) -> None:
        tensor.data = self._given[tensor.name].data
