"""A network as the exact graph it is, and the search for it in a file: every operator, every edge, nothing else.

A network lists its ``Layer``s; ``find_layers`` follows them from the image on through a file's graph, whatever the file calls
them, and names the first one that is not there as it should be. Standard library only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from cmx4trt.base.frozen import Frozen
from cmx4trt.graph.spec import ModelSpec
from cmx4trt.ir.model import Graph, Node
from cmx4trt.networks.base import wrong_model

IMAGE = "image"
"""What layers call the graph's input."""

_WORDS = {"Conv": "convolution", "Relu": "ReLU", "MaxPool": "max pool", "Add": "addition", "Resize": "enlargement"}


class Window(Frozen):
    """A convolution or pooling: side of its kernel, stride, and for a convolution channels and groups.

    Dilation is always 1. ``same``: a strided window may also be padded as TensorFlow's SAME is, one less at the start.
    """

    kernel: int
    stride: int = 1
    inputs: int = 0
    outputs: int = 0
    groups: int = 1
    same: bool = False

    def paddings(self) -> list[tuple[list[int], int]]:
        """The accepted (pads [H begin, W begin, H end, W end], ceil_mode), those of PyTorch first.

        With an even number of rows, SAME and Caffe's rounding up without padding are the same windows.
        """
        half = self.kernel // 2
        found = [([half] * 4, 0)]
        if self.same and self.stride == 2:
            found.append(([half - 1] * 2 + [half] * 2, 0))
            if self.kernel == 3:
                found.append(([0] * 4, 1))
        return found


class Layer(Frozen):
    """One operator of a network.

    ``name``: what layers behind it call its result; ``reads``: the layers it reads, in any order; ``place``: where it is, for
    sentences; ``toward``: names of graph outputs, one of which its result leads to; ``shares``: the layer whose weights it uses.
    """

    name: str
    kind: str
    reads: tuple[str, ...]
    place: str
    window: Window | None = None
    toward: tuple[str, ...] = ()
    shares: str = ""

    def words(self) -> str:
        """The layer in a sentence."""
        return f"{self.place} ({self.name})" if self.place != self.name else self.name


def find_layers(graph: Graph, layers: Sequence[Layer], spec: ModelSpec) -> dict[str, str]:
    """Layer -> its result in ``graph``: every one of ``layers`` is there, and nothing else reads their results.

    Requires: batch normalization is folded, padding is inside the windows, constants are initializers, ``auto_pad`` is
    resolved. Nodes behind the last layers are not looked at. Raises ModelError, naming the first layer that differs.
    """
    return _Search(graph, spec).run(layers)


class _Search:
    __slots__ = ("graph", "nodes", "places", "spec", "taken")

    def __init__(self, graph: Graph, spec: ModelSpec) -> None:
        self.graph = graph
        self.spec = spec
        self.nodes: dict[str, Node] = {}
        self.places: dict[str, str] = {}
        self.taken: set[int] = set()

    def run(self, layers: Sequence[Layer]) -> dict[str, str]:
        readers, leads = self.graph.consumers(), self._leads_to_outputs(layers)
        values = {IMAGE: self.graph.inputs[0].name}
        read: dict[str, int] = {}
        for layer in layers:
            node = self._choose(layer, values, readers, leads)
            self.taken.add(id(node))
            self.nodes[layer.name], self.places[layer.name] = node, layer.words()
            values[layer.name] = node.outputs[0]
            for name in layer.reads:
                read[name] = read.get(name, 0) + 1
        for name in read:
            strangers = [node for node in readers.get(values[name], []) if id(node) not in self.taken]
            if strangers:
                found = f"{strangers[0].label()} reading {self.places.get(name, 'the image')}"
                raise wrong_model(self.spec, found, "no such operator there")
        return values

    def _choose(
        self, layer: Layer, values: dict[str, str], readers: dict[str, list[Node]], leads: dict[str, set[str]]
    ) -> Node:
        """The node that fits best, which must fit wholly. Raises ModelError."""
        source = layer.reads[0]
        free = [node for node in readers.get(values[source], []) if id(node) not in self.taken]
        if layer.toward:
            free = [node for node in free if leads.get(node.outputs[0], set()).intersection(layer.toward)] or free
        alike = [node for node in free if node.op_type == layer.kind]
        after = self.places.get(source, "the image")
        if not alike:
            found = ", ".join(node.label() for node in free) or "the end"
            kind = _WORDS.get(layer.kind, layer.kind)
            raise wrong_model(self.spec, f"no {kind} after {after}, but {found}", f"there {_expected(layer)}")
        wanted = {values[name] for name in layer.reads}
        node, differences = min(
            ((node, list(self._differences(layer, node, wanted))) for node in alike), key=lambda pair: len(pair[1])
        )
        if differences:
            found, need = differences[0]
            raise wrong_model(self.spec, f"{layer.words()}, {node.label()} of the file, with {found}", need)
        return node

    def _differences(self, layer: Layer, node: Node, wanted: set[str]) -> Iterator[tuple[str, str]]:
        """What ``node`` has, and what ``layer`` is to have, wherever they are not the same."""
        reads = {name for name in node.inputs if name and name not in self.graph.initializers}
        if reads != wanted:
            named = {value: self.places.get(name, name) for name, value in self._values()}
            other = ", ".join(named.get(name, f"'{name}'") for name in sorted(reads - wanted)) or "nothing else"
            missing = " and ".join(self.places.get(name, "the image") for name in layer.reads)
            yield f"the input {other}", missing
        if layer.window is not None:
            yield from _window_differences(layer.window, node, self.graph)
        if node.op_type == "Resize" and (mode := node.attributes.get("mode", "nearest")) != "nearest":
            yield f"mode {mode}", "mode nearest"
        if layer.shares and node.inputs[1:] != self.nodes[layer.shares].inputs[1:]:
            yield "weights of its own", f"those of {self.places[layer.shares]}"

    def _values(self) -> Iterator[tuple[str, str]]:
        yield IMAGE, self.graph.inputs[0].name
        yield from ((name, node.outputs[0]) for name, node in self.nodes.items())

    def _leads_to_outputs(self, layers: Sequence[Layer]) -> dict[str, set[str]]:
        """Value -> the graph outputs that depend on it, where a layer asks for that."""
        if not any(layer.toward for layer in layers):
            return {}
        leads: dict[str, set[str]] = {info.name: {info.name} for info in self.graph.outputs}
        for node in reversed(self.graph.nodes):
            ends = set().union(*(leads.get(name, set()) for name in node.outputs))
            for name in node.inputs:
                leads.setdefault(name, set()).update(ends)
        return leads


def _expected(layer: Layer) -> str:
    if layer.window is None:
        return layer.words()
    w = layer.window
    channels = f" {w.inputs}->{w.outputs}" if w.outputs else ""
    return f"{layer.words()}, {w.kernel}x{w.kernel}/{w.stride}{channels}"


def _window_differences(window: Window, node: Node, graph: Graph) -> Iterator[tuple[str, str]]:
    """Kernel, channels, groups, stride, dilation and padding of a Conv or MaxPool."""
    kernel = node.ints("kernel_shape", [])
    if node.op_type == "Conv":
        weight = graph.initializers.get(node.inputs[1])
        if weight is None or len(weight.dims) != 4:
            yield "no constant 4-D weight", "constant weights"
            return
        groups = node.attributes.get("group", 1)
        assert isinstance(groups, int)
        kernel = list(weight.dims[2:])
        yield from _difference(_plural(groups, "group"), _plural(window.groups, "group"))
        yield from _difference(f"{weight.dims[1] * groups} input channels", f"{window.inputs} input channels")
        yield from _difference(f"{weight.dims[0]} output channels", f"{window.outputs} output channels")
    yield from _difference(f"a kernel of {_sides(kernel)}", f"a kernel of {_sides([window.kernel] * 2)}")
    yield from _difference(f"stride {_sides(node.ints('strides', [1, 1]))}", f"stride {_sides([window.stride] * 2)}")
    yield from _difference(f"dilation {_sides(node.ints('dilations', [1, 1]))}", "dilation 1x1")
    padding = (node.ints("pads", [0] * 4), int(bool(node.attributes.get("ceil_mode", 0))))
    accepted = window.paddings()
    if padding not in accepted:
        rounding = " and ceil_mode" if padding[1] else ""
        yield f"padding {padding[0]}{rounding}", " or ".join(str(pads) for pads, _ in accepted)


def _difference(found: str, need: str) -> Iterator[tuple[str, str]]:
    if found != need:
        yield found, need


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"


def _sides(sizes: Collection[int]) -> str:
    return "x".join(map(str, sizes)) or "unknown size"
