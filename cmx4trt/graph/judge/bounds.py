"""How far an operator's result can be from the original's, if nothing but rounding separates the two: written as nodes.

Bounds hold element by element, and whatever the weights. A sum of products of w and x, of which w is known up to k |w| and x
up to e, is off by at most |w| . (k |x| + e), which is at most the product of the two vectors' lengths (Cauchy and Schwarz);
so a bound costs a convolution with one filter, not one with all of them. Sums of n products in float32 add sqrt(n) roundings
(N. J. Higham, T. Mary, "A New Approach to Probabilistic Rounding Error Analysis", SIAM J. Sci. Comput. 41, 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import TYPE_CHECKING, Any

from cmx4trt.graph.arithmetic import ROUNDINGS
from cmx4trt.ir.model import DType, Node, Tensor
from cmx4trt.ir.writer import GraphWriter

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUM_CONFIDENCE = 4.0
"""Higham's and Mary's lambda: sqrt(n) lambda roundings bound a sum of n terms with a probability of 1 - 2 exp(-lambda^2 / 2). The
lengths' product exceeds the sum of magnitudes at least by half, which makes the chance of a wrong alarm negligible."""
REGROUPED = 8 * ROUNDINGS[DType.FLOAT].unit
"""Float32 roundings, each of which a folded batch normalization has in another place than the original's two operators."""

UNKNOWN_SHARE = 2.0**-6
"""What an operator without a rule may be off by, of its largest element: a few roundings of bfloat16."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a fragment: its name there, its type in the prepared graph, and the bound of its error: the name of a value that
    broadcasts to it, or None where it is the original's bit for bit."""

    name: str
    dtype: DType
    bound: str | None = None


class UnknownBoundError(Exception):
    """There is no rule for an operator."""


class BoundWriter:
    """Appends bounds to a graph."""

    def __init__(self, write: GraphWriter, constants: dict[str, Tensor]) -> None:
        self._write = write
        self._constants = constants

    def bound(self, node: Node, inputs: list[Value | None], output: str, same: bool) -> str | None:
        """The bound of the node's first result ``output``, before it is rounded. Raises UnknownBoundError.

        ``inputs``: None for constants; ``same``: its constants are the original's, rounded alike.
        """
        if node.op_type in ("Conv", "Gemm"):
            return self._product(node, inputs, same)
        known = [value for value in inputs if value is not None]
        regrouped = node.op_type in _WITH_CONSTANTS and len(known) < len(inputs)
        if node.op_type in _SAME_BITS and not regrouped and all(value.bound is None for value in known):
            return None
        rule = _RULES.get(node.op_type, BoundWriter._of_unknown)
        return rule(self, node, inputs, output)

    def _of_unknown(self, node: Node, inputs: list[Value | None], output: str) -> str:
        """Of another operator: what it gives for the same numbers is the same but for few roundings."""
        if not all(value is None or value.bound is None for value in inputs):
            raise UnknownBoundError(node.op_type)
        largest = self._write.op("ReduceMax", self._write.op("Abs", output), keepdims=0)
        return self._write.op("Add", self._write.op("Mul", largest, self._number(UNKNOWN_SHARE)), self._number(_LEAST))

    def rounded(self, bound: str | None, value: str, dtype: DType) -> str:
        """The bound behind a rounding of both sides to ``dtype``."""
        rounding = ROUNDINGS[dtype]
        own = self._write.op("Mul", self._write.op("Abs", value), self._number(2 * rounding.unit))
        own = self._write.op("Add", own, self._number(max(2 * rounding.least, _LEAST)))
        return own if bound is None else self._write.op("Add", own, bound)

    def _number(self, value: float) -> str:
        return self._write.number(value)

    def _product(self, node: Node, inputs: list[Value | None], same: bool) -> str:
        import numpy as np

        data, weight = inputs[0], self._weight(node)
        if data is None:
            raise UnknownBoundError(node.op_type)
        unit = ROUNDINGS[data.dtype].unit
        terms = prod(weight.shape[1:])
        share = 2 * SUM_CONFIDENCE * sqrt(terms) * ROUNDINGS[DType.FLOAT].unit + (0.0 if same else unit + REGROUPED)
        lengths = np.sqrt(np.einsum("ij,ij->i", *[weight.reshape(len(weight), -1)] * 2, dtype=np.float64))
        reach = self._lengths(node, self._share(data, share), weight.shape)
        shape = (1, -1) + (1,) * (weight.ndim - 2)
        result = self._write.op(
            "Mul", reach, self._write.constant(lengths.astype(np.float32).reshape(shape), "lengths")
        )
        bias = self._constants.get(node.inputs[2]) if len(node.inputs) > 2 else None
        if bias is None or same:
            return result
        off = np.abs(bias.numpy().astype(np.float32)) * np.float32(unit + REGROUPED)
        return self._write.op("Add", result, self._write.constant(off.reshape(shape), "bias_bound"))

    def _weight(self, node: Node) -> NDArray[Any]:
        """The weights [M, ...] as float32. Raises UnknownBoundError where they are not constant."""
        import numpy as np

        tensor = self._constants.get(node.inputs[1])
        if tensor is None or node.attributes.get("transA", 0):
            raise UnknownBoundError(node.op_type)
        array = tensor.numpy().astype(np.float32, copy=False)
        return array.T if node.op_type == "Gemm" and not node.attributes.get("transB", 0) else array

    def _share(self, data: Value, share: float) -> str:
        """share * |x| + e."""
        own = self._write.op("Mul", self._write.op("Abs", data.name), self._number(share))
        return own if data.bound is None else self._write.op("Add", own, data.bound)

    def _lengths(self, node: Node, value: str, shape: tuple[int, ...]) -> str:
        """The length of what each element of the node's result reads of ``value``; [N, M or 1, ...]."""
        import numpy as np

        write = self._write
        squares = write.op("Mul", value, value)
        if node.op_type == "Gemm":
            return write.op("Sqrt", write.op("ReduceSum", squares, write.ints(1), keepdims=1))
        groups = int(node.attributes.get("group", 1))  # type: ignore[arg-type]
        ones = write.constant(np.ones((groups, *shape[1:]), np.float32), "ones")
        window: dict[str, Any] = {name: node.attributes[name] for name in _WINDOW if name in node.attributes}
        lengths = write.op("Sqrt", write.op("Conv", squares, ones, group=groups, **window))
        if groups == 1:
            return lengths
        return write.op("Gather", lengths, write.ints(*(np.arange(shape[0]) * groups // shape[0])), axis=1)

    def _again(self, node: Node, inputs: list[Value | None], output: str) -> str:
        """The same operator on the bound: what picks elements picks bounds."""
        data = inputs[0]
        if data is None or data.bound is None:
            raise UnknownBoundError(node.op_type)
        return self._write.op(node.op_type, data.bound, *node.inputs[1:], **_attributes(node))

    def _pass_on(self, node: Node, inputs: list[Value | None], output: str) -> str | None:
        return inputs[0].bound if inputs[0] else None

    def _sum(self, node: Node, inputs: list[Value | None], output: str) -> str:
        """The bounds of what is added; a constant is rounded."""
        terms = [value.bound for value in inputs if value is not None and value.bound is not None]
        for name, value in zip(node.inputs, inputs, strict=True):
            if value is None:
                unit = next(ROUNDINGS[other.dtype].unit for other in inputs if other is not None)
                terms.append(self._write.op("Mul", self._write.op("Abs", name), self._number(unit + REGROUPED)))
        result = terms[0]
        for term in terms[1:]:
            result = self._write.op("Add", result, term)
        return result

    def _scaled(self, node: Node, inputs: list[Value | None], output: str) -> str:
        """A product with, or a quotient by, a constant, which is rounded."""
        data = inputs[0] or inputs[1]
        if data is None or (inputs[0] is None) == (inputs[1] is None):
            raise UnknownBoundError(node.op_type)
        own = self._share(Value(output, data.dtype), ROUNDINGS[data.dtype].unit + REGROUPED)
        if data.bound is None:
            return own
        constant = node.inputs[1] if inputs[0] is not None else node.inputs[0]
        return self._write.op("Add", own, self._write.op("Abs", self._write.op(node.op_type, data.bound, constant)))

    def _mean(self, node: Node, inputs: list[Value | None], output: str) -> str:
        """A mean, whose elements are added up in any order."""
        data = inputs[0]
        assert data is not None
        share = 2 * SUM_CONFIDENCE * sqrt(_MOST_AVERAGED) * ROUNDINGS[DType.FLOAT].unit
        return self._write.op(node.op_type, self._share(data, share), **_attributes(node))

    def _requantized(self, node: Node, inputs: list[Value | None], output: str) -> str:
        """What was off by e before QuantizeLinear is off by a step more behind DequantizeLinear."""
        data = inputs[0]
        if data is None or data.bound is None:
            raise UnknownBoundError(node.op_type)
        return self._write.op("Add", data.bound, node.inputs[1])


def _attributes(node: Node) -> dict[str, Any]:
    return dict(node.attributes)


_LEAST = 1e-37
"""What float32 still divides by."""
_MOST_AVERAGED = 4096
"""Elements that a mean is taken of, at most: 64 x 64 positions of the last feature map."""
_WITH_CONSTANTS = frozenset(("Add", "Div", "Mul", "Sub"))
_WINDOW = ("pads", "strides", "dilations", "auto_pad")
_SAME_BITS = {
    *("Add", "Cast", "Concat", "DequantizeLinear", "Div", "Flatten", "Identity", "MaxPool", "Mul", "QuantizeLinear"),
    *("Relu", "Reshape", "Resize", "Squeeze", "Sub", "Transpose", "Unsqueeze"),
}
"""Operators that IEEE 754 (or that they only move elements) leaves one result for."""

_RULES = {
    "Relu": BoundWriter._pass_on,
    "Cast": BoundWriter._pass_on,
    "Identity": BoundWriter._pass_on,
    "QuantizeLinear": BoundWriter._pass_on,
    "DequantizeLinear": BoundWriter._requantized,
    **dict.fromkeys(
        ("Flatten", "MaxPool", "Reshape", "Resize", "Squeeze", "Transpose", "Unsqueeze"), BoundWriter._again
    ),
    **dict.fromkeys(("Add", "Sub"), BoundWriter._sum),
    **dict.fromkeys(("Mul", "Div"), BoundWriter._scaled),
    **dict.fromkeys(("AveragePool", "GlobalAveragePool"), BoundWriter._mean),
}
