"""The rules of placement: which inputs of which operators read int8, and why.

Sources quoted by the rules:
- GUIDE: NVIDIA TensorRT documentation, "Working with Quantized Types", sections "Explicit Quantization" and "Q/DQ Placement
  Recommendations"
- GTC: S. Migacz, "8-bit Inference with TensorRT", GTC 2017
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cmx4trt.backends.flavor import QuantizationFlavor
from cmx4trt.ir.model import DType, Graph, Node

_GUIDE = "TensorRT documentation, Q/DQ Placement Recommendations"
_GTC = "S. Migacz, 8-bit Inference with TensorRT, GTC 2017"


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """What a rule says of one node."""

    inputs: tuple[int, ...] = ()
    weight: tuple[int, int] | None = None
    shares: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One placement rule: for nodes of ``op_types``, ``match`` says which inputs to quantize, None where it does not fire.

    A match that ``shares`` gives the node's inputs and its output one scale.
    """

    name: str
    op_types: tuple[str, ...]
    match: Callable[[View, Node], Match | None]
    reason: str
    source: str


class View:
    """A graph with what rules look up: producers, readers, depth in convolutions, and what is quantized so far."""

    def __init__(self, graph: Graph, kept: frozenset[str], flavor: QuantizationFlavor) -> None:
        self.graph = graph
        self.kept = kept
        self.flavor = flavor
        self.producers = graph.producers()
        self.readers = graph.consumers()
        self.outputs = frozenset(info.name for info in graph.outputs)
        self.demanded: set[str] = set()
        self.depth: dict[str, int] = {}
        for node in graph.nodes:
            below = max((self.depth.get(name, 0) for name in node.inputs), default=0)
            for name in node.outputs:
                self.depth[name] = below + (node.op_type == "Conv")

    def is_constant(self, name: str) -> bool:
        """Whether ``name`` is a weight or another constant."""
        return name in self.graph.initializers

    def fusable_conv(self, name: str, reader: Node) -> Node | None:
        """The quantized convolution that computes ``name`` for ``reader`` alone, so that both become one kernel."""
        node = self.producers.get(name)
        alone = self.readers.get(name) == [reader] and name not in self.outputs
        return node if alone and node and node.op_type == "Conv" and layer_name(node) not in self.kept else None


def layer_name(node: Node) -> str:
    """What a layer is called in requests and reports: its node's name, or its output where the node has none."""
    return node.name or node.outputs[0]


def _match_layer(view: View, node: Node) -> Match | None:
    if layer_name(node) in view.kept or len(node.inputs) < 2 or view.is_constant(node.inputs[0]):
        return None
    if node.op_type == "Gemm" and node.outputs[0] in view.outputs and not view.flavor.classifier:
        return None
    weight = view.graph.initializers.get(node.inputs[1])
    if weight is None or weight.dtype is not DType.FLOAT or node.attributes.get("transA", 0):
        return None
    transposed = node.op_type == "Conv" or bool(node.attributes.get("transB", 0))
    return Match((0,), (1, 0 if transposed else 1))


def _match_residual(view: View, node: Node) -> Match | None:
    """The input of an Add that the convolution's kernel will read: not the convolution's own result."""
    if any(view.is_constant(name) for name in node.inputs) or node.inputs[0] == node.inputs[1]:
        return None
    fusable = [index for index, name in enumerate(node.inputs) if view.fusable_conv(name, node)]
    if not fusable or (len(fusable) == 2 and not view.flavor.stored_shortcuts):
        return None
    # Both are convolutions where a block changes its shape: the deeper one is the main branch, the other the shortcut.
    main = max(fusable, key=lambda index: (view.depth[node.inputs[index]], -index))
    return Match((1 - main,))


def _match_passing(view: View, node: Node) -> Match | None:
    if node.op_type == "Resize" and node.attributes.get("mode", "nearest") != "nearest":
        return None
    return Match((0,), shares=True) if node.outputs[0] in view.demanded else None


def _match_concat(view: View, node: Node) -> Match | None:
    if node.outputs[0] not in view.demanded or any(view.is_constant(name) for name in node.inputs):
        return None
    return Match(tuple(range(len(node.inputs))), shares=True)


def _match_average(view: View, node: Node) -> Match | None:
    return Match((0,)) if not view.is_constant(node.inputs[0]) else None


AVERAGES = ("GlobalAveragePool", "AveragePool")

RULES: tuple[Rule, ...] = (
    Rule(
        "layer-input",
        ("Conv", "Gemm"),
        _match_layer,
        "a layer runs in int8 only if its activation and its weight both come from DequantizeLinear; a matrix product that "
        "writes the network's output stays in floating point: it is 0.05 % of ResNet-50's multiplications, and quantizing it "
        "costs 2 dB of the logits' SQNR (benchmarks/calibration.py)",
        f"{_GUIDE}: quantize all inputs of weighted operations",
    ),
    Rule(
        "residual-add",
        ("Add",),
        _match_residual,
        "convolution, addition and Relu become one int8 kernel if the other addend is int8; the convolution's own result "
        "must stay unquantized, or it would be rounded once more inside the kernel",
        f"{_GUIDE}: quantize the residual input in skip connections",
    ),
    Rule(
        "average-pool",
        AVERAGES,
        _match_average,
        "the layer before it can then write int8, a quarter of the memory traffic; the mean is not quantized",
        f"{_GUIDE}: quantizable layers; average pooling does not commute, so it gets no shared scale",
    ),
    Rule(
        "pass-through",
        ("MaxPool", "Resize"),
        _match_passing,
        "max pooling and nearest resizing only choose among their inputs, so with one scale on both sides they run on int8 "
        "and the second pair changes nothing",
        f"{_GUIDE}: operations that commute with quantization; {_GTC}: pooling keeps the range",
    ),
    Rule(
        "concat",
        ("Concat",),
        _match_concat,
        "all parts of an int8 tensor have one scale",
        f"{_GUIDE}: Concat needs equal scales of its inputs to run in int8",
    ),
)
"""Applied from the graph's end to its start, so that a rule knows what its output's readers want."""
