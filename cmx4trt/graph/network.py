"""The two states of a graph between a model file and a builder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cmx4trt.graph.own_quantization import OwnQuantization
from cmx4trt.graph.spec import ModelSpec
from cmx4trt.ir.model import Model, ValueInfo
from cmx4trt.ir.onnx_file import EncodedGraph, encode_model

BATCH = "N"
"""The symbol of the batch dimension, first of every input and output of an engine."""

OPSET = 19
"""Operator set that all graphs are written in: the first whose QuantizeLinear takes float16, read by TensorRT 10.0 and later,
TensorRT-RTX and ONNX Runtime 1.20 (onnx/docs/Changelog.md; onnx-tensorrt/docs/operators.md)."""

IR_VERSION = 9
"""ONNX IR version that goes with OPSET (onnx/docs/Versioning.md)."""


@dataclass(slots=True, eq=False)
class CanonicalGraph:
    """The float32 computation of a model, free of what exporters add: the state that passes and quantization work on.

    ``model`` has one input [N, C, H, W], a free batch dimension on every input and output, opset ``OPSET`` and no batch
    normalisation. Its outputs are the raw results: class logits, or the ten head tensors of a detector, which
    ``details`` describes. ``own``: how the file quantizes it, where it does.
    """

    model: Model
    spec: ModelSpec
    details: object = None
    notes: dict[str, str] = field(default_factory=dict)
    own: OwnQuantization | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PreparedGraph:
    """The final graph: ``encoded`` is what the builder is given and what ONNX Runtime verifies, byte for byte.

    ``model`` is the same graph, not to be edited; ``details`` is the network's; ``notes`` says for the manifest what was
    found in the file and done to it.
    """

    spec: ModelSpec
    model: Model
    encoded: EncodedGraph
    details: object
    notes: Mapping[str, str]

    @property
    def inputs(self) -> list[ValueInfo]:
        """The engine's inputs."""
        return self.model.graph.inputs

    @property
    def outputs(self) -> list[ValueInfo]:
        """The engine's outputs."""
        return self.model.graph.outputs

    @classmethod
    def from_network(cls, network: CanonicalGraph, notes: Mapping[str, str]) -> PreparedGraph:
        """Seal ``network``."""
        return cls(network.spec, network.model, encode_model(network.model), network.details, dict(notes))
