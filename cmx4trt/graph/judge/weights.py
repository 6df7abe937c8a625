"""Are a prepared graph's weights the file's: its own, or those into which its batch normalization was folded, but for rounding?

Then both compute the same from the same values, and nothing needs to be computed to see it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cmx4trt.graph.arithmetic import ROUNDINGS
from cmx4trt.graph.judge.bounds import REGROUPED
from cmx4trt.ir.model import DType, Graph, Model, Node, Tensor, ValueInfo
from cmx4trt.ir.onnx_file import encode_model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_AFFINE = {"Add", "BatchNormalization", "Div", "Mul", "Sub"}
"""Operators that exporters write batch normalization with."""
_LARGE = 2.0**20
"""Where a normalization is evaluated besides at 0: its factor is had to float32's last place, whatever is added."""
_CHUNK = 2**15
"""Elements that are compared at a time, so that what is made of them stays in the processor's cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Normalized:
    """A convolution of a file and what its batch normalization makes of it: x * ``scale`` + ``shift``, float32 [C]; ``largest``
    [C]: magnitude of the terms whose sum the shift is."""

    convolution: Node
    scale: NDArray[np.float32]
    shift: NDArray[np.float32]
    largest: NDArray[np.float32]

    def folded(self, constants: Mapping[str, Tensor]) -> tuple[Tensor, NDArray[Any], NDArray[Any]]:
        """The convolution's weights, the folded bias, and the magnitude of the terms whose sum that is, float32 [C]."""
        import numpy as np

        names = self.convolution.inputs
        weight = constants[names[1]]
        bias = constants[names[2]].numpy() if len(names) > 2 and names[2] else np.zeros_like(self.shift)
        product = bias * self.scale
        return weight, product + self.shift, np.abs(product) + self.largest


def normalized(model: Model, values: Sequence[str], known: Collection[str]) -> dict[str, Normalized]:
    """Those of ``values`` that are a convolution's result behind batch normalization, none of the ``known`` values in between.

    The file's own operators are evaluated, by ONNX Runtime: whoever folded them did so by formulas.
    """
    import numpy as np

    graph = model.graph
    producers = graph.producers()
    chains = {value: chain for value in values if (chain := _chain(graph, producers, value, known)) is not None}
    if not chains:
        return {}
    results = _evaluated(model, chains)
    found = {}
    for value, (convolution, nodes) in chains.items():
        channels = graph.initializers[convolution.inputs[1]].dims[0]
        ends = results[value]
        if ends.shape == (2, channels, 1, 1):
            at_zero, at_large = ends[:, :, 0, 0]
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is no rounding of anything
                scale = (at_large - at_zero) / np.float32(_LARGE)
            found[value] = Normalized(convolution, scale, at_zero, _largest(graph, nodes, scale, at_zero))
    return found


def _chain(
    graph: Graph, producers: Mapping[str, Node], value: str, known: Collection[str]
) -> tuple[Node, list[Node]] | None:
    """The convolution, with constant weights in float32, and the nodes behind it in order."""
    nodes: list[Node] = []
    node = producers.get(value)
    while node is not None and node.op_type in _AFFINE and sum(map(bool, node.outputs)) == 1:
        open_ = [name for name in node.inputs if name and name not in graph.initializers]
        if len(open_) != 1 or (node.op_type != "Add" and node.op_type != "Mul" and node.inputs[0] != open_[0]):
            return None
        if node.attributes.get("training_mode", 0) or open_[0] in known:
            return None
        nodes.append(node)
        node = producers.get(open_[0])
    if node is None or node.op_type != "Conv" or not nodes:
        return None
    constants = [graph.initializers.get(name) for name in node.inputs[1:] if name]
    if not all(tensor is not None and tensor.dtype is DType.FLOAT for tensor in constants):
        return None
    return node, nodes[::-1]


def _evaluated(model: Model, chains: Mapping[str, tuple[Node, list[Node]]]) -> dict[str, NDArray[Any]]:
    """What each chain gives for 0 and for a large number in every channel, [2, C, 1, 1]."""
    import numpy as np

    from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

    graph = model.graph
    constants = {name: graph.initializers[name] for name in _constants(graph, chains)}
    nodes: list[Node] = []
    feeds: dict[str, NDArray[Any]] = {}
    for convolution, behind in chains.values():
        name, channels = convolution.outputs[0], graph.initializers[convolution.inputs[1]].dims[0]
        feeds[name] = np.repeat(np.array([0, _LARGE], np.float32), channels).reshape(2, channels, 1, 1)
        nodes += [node for node in behind if not any(node is other for other in nodes)]
    inputs = [ValueInfo(name, DType.FLOAT, None) for name in feeds]
    outputs = [ValueInfo(name, DType.FLOAT, None) for name in chains]
    part = Graph("normalizations", nodes, constants, inputs, outputs)
    encoded = encode_model(Model(part, model.opsets, model.ir_version))
    session = OnnxRuntimeSession.from_bytes(
        encoded.message, constants=encoded.constants, what="the original model", as_written=True
    )
    return session.run(feeds)


def _constants(graph: Graph, chains: Mapping[str, tuple[Node, list[Node]]]) -> set[str]:
    nodes = [node for _, behind in chains.values() for node in behind]
    return {name for node in nodes for name in node.inputs if name in graph.initializers}


def _largest(graph: Graph, nodes: Sequence[Node], scale: NDArray[Any], shift: NDArray[Any]) -> NDArray[Any]:
    """BatchNormalization adds an offset and a mean, which may nearly cancel each other."""
    import numpy as np

    if len(nodes) != 1 or nodes[0].op_type != "BatchNormalization":
        largest: NDArray[Any] = np.abs(shift)
        return largest
    offset, mean = (graph.initializers[name].numpy() for name in nodes[0].inputs[2:4])
    terms: NDArray[Any] = np.abs(offset) + np.abs(mean * scale)
    return terms


def is_folded(own: Sequence[Tensor], theirs: Normalized, constants: Mapping[str, Tensor], dtype: DType) -> bool:
    """Whether the weights ``own``, float32 numbers rounded to ``dtype``, are what folding gives but for rounding."""
    import numpy as np

    weight, bias, largest = theirs.folded(constants)
    if len(own) != 2 or own[0].dims != weight.dims or own[1].dims != bias.shape:
        return False
    if not own[0].dtype is own[1].dtype is weight.dtype is DType.FLOAT:
        return False
    limit = ROUNDINGS[dtype]
    unit, least = limit.unit + REGROUPED, limit.least
    with np.errstate(over="ignore", invalid="ignore"):
        close = np.abs(own[1].numpy() - bias) <= unit * np.abs(bias) + REGROUPED * largest + least
        return bool(close.all()) and _close(weight.numpy(), own[0].numpy(), unit, least, theirs.scale)


def has_folded_bias(theirs: Normalized, constants: Mapping[str, Tensor]) -> bool:
    """Whether folding gives a bias that is more than the rounding of its terms."""
    import numpy as np

    _, bias, largest = theirs.folded(constants)
    return bool((np.abs(bias) > REGROUPED * largest).any())


def is_same_but_for_rounding(exact: Tensor, rounded: Tensor, dtype: DType) -> bool:
    """Whether the float32 numbers ``rounded`` are those of ``exact`` rounded to ``dtype``; where that is float32, the same."""
    if exact.dims != rounded.dims or not exact.dtype is rounded.dtype is DType.FLOAT:
        return False
    import numpy as np

    if dtype is DType.FLOAT:
        return bool(np.array_equal(exact.numpy(), rounded.numpy()))
    limit = ROUNDINGS[dtype]
    return _close(exact.numpy().reshape(-1), rounded.numpy().reshape(-1), limit.unit, limit.least)


def _close(
    exact: NDArray[Any], rounded: NDArray[Any], unit: float, least: float, scale: NDArray[Any] | None = None
) -> bool:
    """Whether each |rounded - x| is at most unit |x| + least; x is ``exact`` [M, ...], or times ``scale`` [M]."""
    import numpy as np

    exact, rounded = exact.reshape(len(exact), -1), rounded.reshape(len(rounded), -1)
    rows = max(1, _CHUNK // max(exact.shape[1], 1))
    scaled, error, limit = np.empty((3, min(rows, len(exact)), exact.shape[1]), np.float32)
    for start in range(0, len(exact), rows):
        part = slice(start, start + rows)
        x, count = exact[part], len(exact[part])
        if scale is not None:
            x = np.multiply(x, scale[part, None], out=scaled[:count])
        off = np.subtract(rounded[part], x, out=error[:count])
        most = np.abs(x, out=limit[:count])
        most *= np.float32(unit)
        most += np.float32(least)
        # NaN, and infinity less infinity, are close to nothing.
        if not np.less_equal(np.abs(off, out=off), most).all():
            return False
    return True
