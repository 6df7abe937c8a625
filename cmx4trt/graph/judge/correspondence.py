"""Which values of a file a prepared graph's values are.

Imports keep the names of the values that they keep; where they give another, the network says so. A name that both graphs have
for different things would show as a shape that differs, or as a layer that does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from cmx4trt.graph.constants import nodes_before
from cmx4trt.ir.model import Graph, Node, node_reads

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SUFFIXES = ("_float16", "_bfloat16", "")
"""``graph.precision`` calls what it computes in another type by the value's name and the type's, before a Cast to the output."""
TURNED = "_nchw"
"""Ends the names of values that ``graph.layout`` computes as [N, C, H, W] where the file has [N, H, W, C]."""
_BENDS = {"Abs", "Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "MaxPool", "Relu", "Sigmoid", "Softplus", "Tanh"}
_TRANSPARENT = {"Cast", "QuantizeLinear", "DequantizeLinear"}
"""Operators in front of the first convolution that leave the image what it is."""


def computed_name(graph: Graph, name: str) -> str:
    """What ``graph`` calls the result ``name`` where it is computed, before it is cast."""
    produced = graph.producers()
    return next((f"{name}{suffix}" for suffix in _SUFFIXES if f"{name}{suffix}" in produced), name)


def correspondence(prepared: Graph, original: Graph, results: Mapping[str, str]) -> dict[str, str]:
    """Values of ``prepared``, in the order they are computed, to values of ``original``.

    ``results`` names those where both end, and whatever else bears another name. What lies behind the results is left out.
    """
    image = prepared.inputs[0].name
    renamed = {computed_name(prepared, own): theirs for own, theirs in results.items() if own != image}
    taken = set(renamed.values())
    known = {name for node in original.nodes for name in node.outputs if name} | {info.name for info in original.inputs}
    pairs = {image: results[image] if image in results else image_value(prepared, original)}
    for node in nodes_before(prepared, renamed):
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue  # judged with what reads them: it multiplies the integers themselves
        for name in node.outputs:
            own = name.removesuffix(TURNED)
            theirs = renamed.get(name, own if own in known and own not in taken else "")
            if theirs and theirs != pairs[image]:
                pairs[name] = theirs
    return pairs


def channels_first(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """The file's value for the value ``name`` of the prepared graph, in the order of axes that this has."""
    return array.transpose(0, 3, 1, 2) if name.endswith(TURNED) and array.ndim == 4 else array


def bends(producers: Mapping[str, Node], value: str, known: Collection[str]) -> list[str]:
    """The activations and poolings, sorted, between ``value`` and the values ``known`` that it is computed from."""
    found, open_, seen = [], [value], {value}
    while open_:
        node = producers.get(open_.pop())
        if node is None:
            continue
        found += [kind for kind in (node.op_type, str(node.attributes.get("activation", ""))) if kind in _BENDS]
        new = [name for name in node.inputs if name not in known and name not in seen]
        seen.update(new)
        open_ += new
    return sorted(found)


def image_value(prepared: Graph, original: Graph) -> str:
    """What of the file the prepared graph's input is: the file's input, or what its first convolution reads where the
    prepared graph leaves the normalization in front of it out."""
    source = original.inputs[0].name
    before = _before_first_convolution(prepared)
    if before is None or any(node.op_type not in _TRANSPARENT for node in before):
        return source
    first = _first_convolution(original)
    if first is None:
        return source
    value, producers = first.inputs[0], original.producers()
    while (node := producers.get(value)) is not None and node.op_type == "Pad":
        value = node.inputs[0]
    return value


def _before_first_convolution(graph: Graph) -> list[Node] | None:
    first = _first_convolution(graph)
    return None if first is None else nodes_before(graph, first.inputs[:1])


def _first_convolution(graph: Graph) -> Node | None:
    """The first convolution that reads what depends on the input."""
    behind = {info.name for info in graph.inputs}
    for node in graph.nodes:
        if any(name in behind for name in node_reads(node)):
            if node.op_type in ("Conv", "FusedConv"):
                return node
            behind.update(node.outputs)
    return None
