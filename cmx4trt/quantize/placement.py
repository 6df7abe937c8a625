"""Where Q/DQ pairs go: rules as data, applied to a float network for a backend's flavor of quantization.

Sources quoted by the rules:
- GUIDE: NVIDIA TensorRT documentation, "Working with Quantized Types", sections "Explicit Quantization" and "Q/DQ Placement
  Recommendations"
- GTC: S. Migacz, "8-bit Inference with TensorRT", GTC 2017
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from cmx4trt.backends.flavor import TENSORRT, QuantizationFlavor
from cmx4trt.ir.model import DType, Graph, Node

_GUIDE = "TensorRT documentation, Q/DQ Placement Recommendations"
_GTC = "S. Migacz, 8-bit Inference with TensorRT, GTC 2017"


@dataclass(frozen=True, slots=True, eq=False)
class Edge:
    """An input of a node that shall read int8: ``node.inputs[index]``, the activation ``tensor``; ``rule`` is why."""

    node: Node
    index: int
    tensor: str
    rule: str


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """A constant input, ``tensor``, to store as int8 with one scale for each index along ``axis`` (the output channels)."""

    node: Node
    index: int
    tensor: str
    axis: int


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


@dataclass(frozen=True, slots=True)
class Placement:
    """Everything to quantize in one graph.

    ``groups`` are sets of activations that must have the same scale; ``layers`` all layers with weights, ``kept`` those
    that stay in floating point. ``unsigned`` are the activations to store as uint8. ``bounds`` names for an average the
    activation it is taken from, whose range holds for it, too.
    """

    edges: tuple[Edge, ...]
    weights: tuple[Weight, ...]
    groups: tuple[frozenset[str], ...]
    layers: tuple[str, ...]
    kept: tuple[str, ...]
    unsigned: frozenset[str] = frozenset()
    bounds: Mapping[str, str] = field(default_factory=dict)

    @property
    def activations(self) -> tuple[str, ...]:
        """The activations that need a range, in graph order."""
        grouped = {name for group in self.groups for name in group}
        names = dict.fromkeys(edge.tensor for edge in self.edges)
        return tuple(names) + tuple(sorted(grouped - names.keys()))

    def fired(self) -> dict[str, int]:
        """How many inputs each rule quantizes."""
        counts: dict[str, int] = {}
        for edge in self.edges:
            counts[edge.rule] = counts.get(edge.rule, 0) + 1
        return counts


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


_AVERAGES = ("GlobalAveragePool", "AveragePool")
_RESHAPING = ("Flatten", "Reshape", "Squeeze", "Identity")
_KEEPS_SIGN = ("MaxPool", *_AVERAGES, "Concat", "Flatten", "Squeeze", "Identity")
"""Operators whose result is not negative if none of their inputs is."""

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
        _AVERAGES,
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


def place(
    graph: Graph,
    kept: Collection[str] = (),
    flavor: QuantizationFlavor = TENSORRT,
    rules: Iterable[Rule] = RULES,
) -> Placement:
    """What to quantize in ``graph``; the layers named in ``kept`` stay as they are.

    Graph outputs are never quantized: int8 scores would leave a few dozen distinct values. Requires a float32 graph
    without batch normalisation and subgraphs.
    """
    view = View(graph, frozenset(kept), flavor)
    by_type = {op_type: rule for rule in rules for op_type in rule.op_types}
    edges: list[Edge] = []
    weights: list[Weight] = []
    groups: list[frozenset[str]] = []
    for node in reversed(graph.nodes):
        rule = by_type.get(node.op_type)
        match = rule.match(view, node) if rule else None
        if rule is None or match is None:
            continue
        edges += [Edge(node, index, node.inputs[index], rule.name) for index in match.inputs]
        view.demanded.update(node.inputs[index] for index in match.inputs)
        if match.weight:
            index, axis = match.weight
            weights.append(Weight(node, index, node.inputs[index], axis))
        if match.shares:
            groups.append(frozenset([*(node.inputs[index] for index in match.inputs), node.outputs[0]]))
    layers = [layer_name(node) for node in graph.nodes if node.op_type in ("Conv", "Gemm")]
    quantized = {layer_name(weight.node) for weight in weights}
    merged = _merged(groups)
    return Placement(
        edges=tuple(edges[::-1]),
        weights=tuple(weights[::-1]),
        groups=merged,
        layers=tuple(layers),
        kept=tuple(name for name in layers if name not in quantized),
        unsigned=_unsigned(graph, view.demanded, merged) if flavor.unsigned else frozenset(),
        bounds=_bounds(view),
    )


def _unsigned(graph: Graph, demanded: Collection[str], groups: Iterable[frozenset[str]]) -> frozenset[str]:
    """The activations to quantize that cannot be negative; of a group all or none."""
    nonnegative: set[str] = set()
    for node in graph.nodes:
        kept = node.op_type in _KEEPS_SIGN and nonnegative.issuperset(node.inputs)
        if node.op_type == "Relu" or kept:
            nonnegative.update(node.outputs)
    mixed = {name for group in groups if not group <= nonnegative for name in group}
    grouped = {name for group in groups for name in group}
    return frozenset((grouped | set(demanded)) & nonnegative - mixed)


def _bounds(view: View) -> dict[str, str]:
    """Of the activations to quantize, the averages and what they are taken from."""
    found: dict[str, str] = {}
    for name in sorted(view.demanded):
        node = view.producers.get(name)
        while node is not None and node.op_type in _RESHAPING:
            node = view.producers.get(node.inputs[0])
        if node is not None and node.op_type in _AVERAGES:
            found[name] = node.inputs[0]
    return found


def restricted(placement: Placement, known: Collection[str]) -> Placement:
    """``placement`` without the activations that have no range; a layer whose input has none stays in floating point."""
    edges = tuple(edge for edge in placement.edges if edge.tensor in known)
    reading = {id(edge.node) for edge in edges}
    weights = tuple(weight for weight in placement.weights if id(weight.node) in reading)
    quantized = {layer_name(weight.node) for weight in weights}
    kept = tuple(name for name in placement.layers if name not in quantized)
    groups = tuple(group & frozenset(known) for group in placement.groups)
    groups = tuple(group for group in groups if len(group) > 1)
    return replace(placement, edges=edges, weights=weights, groups=groups, kept=kept)


def shared_scales(placement: Placement, scales: Mapping[str, float]) -> dict[str, float]:
    """``scales`` with all members of a group at the group's largest, also those that had none of their own.

    An average without a range takes that of what it is taken from, which it cannot leave.
    """
    shared = dict(scales)
    for group in placement.groups:
        known = [scales[name] for name in group if name in scales]
        if known:
            shared.update(dict.fromkeys(group, max(known)))
    for name, source in placement.bounds.items():
        if name not in shared and source in shared:
            shared[name] = shared[source]
    return shared


def _merged(groups: list[frozenset[str]]) -> tuple[frozenset[str], ...]:
    """Groups that overlap, joined."""
    merged: list[frozenset[str]] = []
    for group in groups:
        touching = [other for other in merged if other & group]
        merged = [other for other in merged if not other & group]
        merged.append(group.union(*touching))
    return tuple(merged)
