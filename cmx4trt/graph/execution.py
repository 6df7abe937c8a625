"""Prepared graphs, and original models, in ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmx4trt.graph.arithmetic import faithful, is_reduced
from cmx4trt.graph.passes import lift_constants
from cmx4trt.ir.model import DType
from cmx4trt.ir.onnx_file import EncodedGraph, decode_encoded, encode_model
from cmx4trt.sessions.onnxruntime import CPU, OnnxRuntimeSession

if TYPE_CHECKING:
    from cmx4trt.graph.network import PreparedGraph
    from cmx4trt.ir.model import Model


def open_prepared(graph: PreparedGraph, providers: tuple[str, ...] = CPU) -> OnnxRuntimeSession:
    """A session that computes as an engine of the graph does: on the CPU, and where there are no bfloat16 kernels, by rounding
    what float32 operators give; else on the bytes given to the builder."""
    constants = graph.model.graph.initializers.values()
    if providers == CPU or any(tensor.dtype is DType.BFLOAT16 for tensor in constants):
        return open_faithful(graph.model, providers)
    return OnnxRuntimeSession.from_graph(graph.encoded, providers)


def open_faithful(model: Model, providers: tuple[str, ...] = CPU) -> OnnxRuntimeSession:
    """A session on ``model`` in its own arithmetic, whatever kernels the provider has."""
    return OnnxRuntimeSession.from_graph(encode_model(own_arithmetic(model)), providers)


def own_arithmetic(model: Model) -> Model:
    """``model`` itself, or, where it computes in float16 or bfloat16, what ``faithful`` makes of it."""
    return faithful(model) if is_reduced(model) else model


def open_original(original: EncodedGraph, precision: str, as_written: bool = False) -> OnnxRuntimeSession:
    """A session on a model as its file has it; where that computes in another ``precision`` than float32, on the float32 network
    that it stands for. ``as_written``: see ``OnnxRuntimeSession.from_bytes``."""
    if precision == "fp32":
        return OnnxRuntimeSession.from_bytes(original.message, constants=original.constants, as_written=as_written)
    from cmx4trt.graph.widening import widen_floats

    model = decode_encoded(original)
    lift_constants(model.graph)
    widen_floats(model.graph)
    model.graph.prune()  # ONNX Runtime takes no data for constants that nothing reads
    encoded = encode_model(model)
    return OnnxRuntimeSession.from_bytes(encoded.message, constants=encoded.constants, as_written=as_written)
