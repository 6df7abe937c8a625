"""Output shapes of the operators that convolutional networks are made of, by arithmetic; nothing is run.

Shapes are those of one image: the batch dimension is 1. Rules: onnx/docs/Operators.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from math import prod

from cmx4trt.ir.model import DType, Node, Tensor

Shape = tuple[int, ...]

POINTWISE = frozenset(
    ("Add", "Cast", "Clip", "Div", "Exp", "HardSigmoid", "LeakyRelu", "Mul", "QuantizeLinear", "Relu", "Sigmoid", "Sub")
)
"""Operators that work element by element, which builders compute in the layer before."""
VIEWS = frozenset(("Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"))
"""Operators that leave all bytes where they are."""
PRODUCTS = frozenset(("Conv", "Gemm", "MatMul"))
"""Operators that multiply and add: the only ones with multiply-accumulates to count."""


def output_shape(node: Node, shapes: list[Shape | None], constants: Mapping[str, Tensor]) -> Shape | None:
    """The shape of ``node``'s first output from the ``shapes`` of its inputs; None where this module has no rule for it."""
    rule = _RULES.get(node.op_type, _pointwise if node.op_type in POINTWISE else None)
    if rule is None or not shapes or shapes[0] is None:
        return None
    try:
        return rule(node, shapes, constants)
    except (IndexError, KeyError, TypeError, ValueError, ZeroDivisionError, struct.error):
        return None  # a form of the operator that networks of this package do not have


def multiply_accumulates(node: Node, shapes: list[Shape | None], output: Shape) -> int:
    """Multiply-accumulates of one image: output elements times the length of the sum behind each."""
    if node.op_type not in PRODUCTS:
        return 0
    data, weight = shapes[0], shapes[1]
    assert data is not None
    assert weight is not None
    if node.op_type == "Conv":
        return prod(output) * prod(weight[1:])  # weight [C_out, C_in / groups, …]
    transposed = node.op_type == "Gemm" and node.attributes.get("transA", 0)
    return prod(output) * (data[-2] if transposed else data[-1])


def floats_of(tensor: Tensor) -> list[float]:
    """The elements of a floating-point constant, without numpy. Raises ValueError for another type."""
    raw = bytes(tensor.data)
    if tensor.dtype is DType.BFLOAT16:
        raw = b"".join(b"\0\0" + raw[i : i + 2] for i in range(0, len(raw), 2))
    code = {DType.FLOAT: "f", DType.BFLOAT16: "f", DType.FLOAT16: "e", DType.DOUBLE: "d"}.get(tensor.dtype)
    if code is None:
        raise ValueError(f"{tensor.name} is {tensor.dtype.name}, expected a floating-point constant")
    return list(struct.unpack(f"<{tensor.size}{code}", raw))


def _ints(tensor: Tensor) -> list[int]:
    return list(struct.unpack(f"<{tensor.size}{'q' if tensor.dtype is DType.INT64 else 'i'}", bytes(tensor.data)))


def _known(shapes: list[Shape | None], index: int) -> Shape:
    shape = shapes[index]
    if shape is None:
        raise ValueError("an input's shape is not known")
    return shape


def _pointwise(node: Node, shapes: list[Shape | None], constants: Mapping[str, Tensor]) -> Shape:
    """The broadcast shape of all inputs (Clip's bounds and Q's scales are scalars, or vectors that change nothing)."""
    used = shapes[:1] if node.op_type in ("QuantizeLinear", "Clip") else shapes
    known = [_known(used, index) for index in range(len(used))]
    rank = max(map(len, known))
    padded = [(1,) * (rank - len(shape)) + shape for shape in known]
    return tuple(max(sizes) for sizes in zip(*padded, strict=True))


def _same(node: Node, shapes: list[Shape | None], constants: Mapping[str, Tensor]) -> Shape:
    return _known(shapes, 0)


def _window(node: Node, size: Shape, kernel: list[int]) -> Shape:
    """Spatial output sizes of a sliding window."""
    if node.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", b"NOTSET", "VALID", b"VALID"):
        raise ValueError("auto_pad")
    rank = len(kernel)
    strides, dilations = node.ints("strides", [1] * rank), node.ints("dilations", [1] * rank)
    pads = node.ints("pads", [0] * 2 * rank)
    ceil = int(bool(node.attributes.get("ceil_mode", 0)))
    return tuple(
        (size[i] + pads[i] + pads[i + rank] - dilations[i] * (kernel[i] - 1) - 1 + ceil * (strides[i] - 1))
        // strides[i]
        + 1
        for i in range(rank)
    )


def _conv(node: Node, shapes: list[Shape | None], constants: Mapping[str, Tensor]) -> Shape:
    data, weight = _known(shapes, 0), _known(shapes, 1)
    return (data[0], weight[0], *_window(node, data[2:], list(weight[2:])))


def _pool(node: Node, shapes: list[Shape | None], constants: Mapping[str, Tensor]) -> Shape:
    data = _known(shapes, 0)
    return (*data[:2], *_window(node, data[2:], node.ints("kernel_shape", [])))


def _global_pool(node: Node, shapes: list[Shape | None], constants: Mapping[str, Tensor]) -> Shape:
    data = _known(shapes, 0)
    return (*data[:2], *(1 for _ in data[2:]))


def _gemm(node: Node, shapes: list[Shape | None], constants: Mapping[str, Tensor]) -> Shape:
    data, weight = _known(shapes, 0), _known(shapes, 1)
    return (
        data[1] if node.attributes.get("transA", 0) else data[0],
        weight[0] if node.attributes.get("transB", 0) else weight[1],
    )


def _matmul(node: Node, shapes: list[Shape | None], constants: Mapping[str, Tensor]) -> Shape:
    data, weight = _known(shapes, 0), _known(shapes, 1)
    if len(weight) != 2 or len(data) < 2:
        raise ValueError("batched")
    return (*data[:-1], weight[1])


def _flatten(node: Node, shapes: list[Shape | None], constants: Mapping[str, Tensor]) -> Shape:
    data, axis = _known(shapes, 0), node.attributes.get("axis", 1)
    assert isinstance(axis, int)
    return (prod(data[:axis]), prod(data[axis:]))


def _reshape(node: Node, shapes: list[Shape | None], constants: Mapping[str, Tensor]) -> Shape:
    data, wanted = _known(shapes, 0), _ints(constants[node.inputs[1]])
    sizes = [data[i] if size == 0 else size for i, size in enumerate(wanted)]
    if -1 in sizes:
        rest = prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = prod(data) // rest
    if prod(sizes) != prod(data):
        raise ValueError("a batch size other than 1 is hard-coded in the shape")
    return tuple(sizes)


def _axes(node: Node, constants: Mapping[str, Tensor]) -> list[int]:
    return _ints(constants[node.inputs[1]]) if len(node.inputs) > 1 else node.ints("axes", [])


def _squeeze(node: Node, shapes: list[Shape | None], constants: Mapping[str, Tensor]) -> Shape:
    data = _known(shapes, 0)
    axes = {axis % len(data) for axis in _axes(node, constants)}
    return tuple(size for i, size in enumerate(data) if i not in axes)


def _unsqueeze(node: Node, shapes: list[Shape | None], constants: Mapping[str, Tensor]) -> Shape:
    sizes, axes = list(_known(shapes, 0)), _axes(node, constants)
    rank = len(sizes) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        sizes.insert(axis, 1)
    return tuple(sizes)


def _transpose(node: Node, shapes: list[Shape | None], constants: Mapping[str, Tensor]) -> Shape:
    data = _known(shapes, 0)
    return tuple(data[axis] for axis in node.ints("perm", range(len(data))[::-1]))


def _concat(node: Node, shapes: list[Shape | None], constants: Mapping[str, Tensor]) -> Shape:
    parts, axis = [_known(shapes, i) for i in range(len(shapes))], node.attributes["axis"]
    assert isinstance(axis, int)
    axis %= len(parts[0])
    return (*parts[0][:axis], sum(part[axis] for part in parts), *parts[0][axis + 1 :])


def _resize(node: Node, shapes: list[Shape | None], constants: Mapping[str, Tensor]) -> Shape:
    data = _known(shapes, 0)
    if len(node.inputs) > 3 and node.inputs[3]:
        return (*data[:2], *_ints(constants[node.inputs[3]])[2:])
    return tuple(int(size * scale) for size, scale in zip(data, floats_of(constants[node.inputs[2]]), strict=True))


_RULES: Mapping[str, Callable[[Node, list[Shape | None], Mapping[str, Tensor]], Shape]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _global_pool,
    "DequantizeLinear": _same,
    "Identity": _same,
    "Softmax": _same,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Concat": _concat,
    "Resize": _resize,
}
