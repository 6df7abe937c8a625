"""The two states of a graph between a model file and a builder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cmx4trt.base.frozen import Frozen
from cmx4trt.graph.own_quantization import OwnQuantization
from cmx4trt.graph.spec import ModelSpec
from cmx4trt.ir.model import Model, Tensor, ValueInfo
from cmx4trt.ir.onnx_file import EncodedGraph, encode_model

BATCH = "N"
"""The symbol of the batch dimension, first of every input and output of an engine."""

OPSET = 19
"""Operator set that all graphs are written in: the first whose QuantizeLinear takes float16, read by TensorRT 10.0 and later,
TensorRT-RTX and ONNX Runtime 1.20 (onnx/docs/Changelog.md; onnx-tensorrt/docs/operators.md)."""

IR_VERSION = 9
"""ONNX IR version that goes with OPSET (onnx/docs/Versioning.md)."""


class CanonicalGraph:
    """The float32 computation of a model, free of what exporters add: the state that passes and quantization work on.

    ``model`` has one input [N, C, H, W], a free batch dimension on every input and output, opset ``OPSET`` and no batch
    normalisation. Its outputs are the raw results: class logits, or the ten head tensors of a detector, which
    ``details`` describes. ``own``: how the file quantizes it, where it does.
    """

    __slots__ = ("details", "model", "notes", "own", "spec")

    def __init__(
        self,
        model: Model,
        spec: ModelSpec,
        details: object = None,
        notes: dict[str, str] | None = None,
        own: OwnQuantization | None = None,
    ) -> None:
        self.model = model
        self.spec = spec
        self.details = details
        self.notes = {} if notes is None else notes
        self.own = own

    def copy(self) -> CanonicalGraph:
        """The same network with a graph and notes of its own, over the same constants."""
        return CanonicalGraph(self.model.copy(), self.spec, self.details, dict(self.notes), self.own)


class PreparedGraph(Frozen):
    """The final graph: ``encoded`` is what the builder is given and what ONNX Runtime verifies, byte for byte.

    ``model`` is the same graph, not to be edited; ``details`` is the network's; ``notes`` says for the manifest what was
    found in the file and done to it; ``unchecked`` are weights that no one has looked at yet.
    """

    spec: ModelSpec
    model: Model
    encoded: EncodedGraph
    details: object
    notes: Mapping[str, str]
    unchecked: Sequence[Tensor] = ()

    @property
    def inputs(self) -> list[ValueInfo]:
        """The engine's inputs."""
        return self.model.graph.inputs

    @property
    def outputs(self) -> list[ValueInfo]:
        """The engine's outputs."""
        return self.model.graph.outputs

    def check(self) -> None:
        """What preparing leaves to be done beside a library that builds: look for infinities and NaN in the weights whose bytes
        stayed as they were. Raises ModelError."""
        from cmx4trt.graph.precision import check_finite

        check_finite(self.unchecked)

    @classmethod
    def from_network(
        cls, network: CanonicalGraph, notes: Mapping[str, str], unchecked: Sequence[Tensor] = ()
    ) -> PreparedGraph:
        """Seal ``network``."""
        encoded = encode_model(network.model)
        return cls(network.spec, network.model, encoded, network.details, dict(notes), tuple(unchecked))
