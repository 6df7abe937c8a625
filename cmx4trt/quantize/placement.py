"""Where Q/DQ pairs go: the rules, applied to a float network for a backend's flavor of quantization."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from cmx4trt.backends.flavor import TENSORRT, QuantizationFlavor
from cmx4trt.ir.model import Graph, Node
from cmx4trt.quantize.rules import AVERAGES, RULES, Rule, View, layer_name

_RESHAPING = ("Flatten", "Reshape", "Squeeze", "Identity")
_KEEPS_SIGN = ("MaxPool", *AVERAGES, "Concat", "Flatten", "Squeeze", "Identity")
"""Operators whose result is not negative if none of their inputs is."""


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


def place(
    graph: Graph,
    kept: Collection[str] = (),
    flavor: QuantizationFlavor = TENSORRT,
    rules: Iterable[Rule] = RULES,
) -> Placement:
    """What to quantize in ``graph``; the layers named in ``kept`` stay as they are.

    Graph outputs are never quantized: int8 scores would leave a few dozen distinct values. Requires a float32 graph
    without batch normalization and subgraphs.
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
        if node is not None and node.op_type in AVERAGES:
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
