"""Layers that need no comparison: the prepared graph has the file's own operator, with the same numbers, on the same values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from cmx4trt.graph.judge.correspondence import TURNED
from cmx4trt.ir.model import Node

_OPERATORS = {"Add", "Conv", "Gemm", "GlobalAveragePool", "MaxPool", "Relu"}
"""Operators that mean the same in every operator set from 7 on (onnx/docs/Changelog.md), and give one result."""
OLDEST_OPSET = 7
_WINDOW: dict[str, Any] = {"auto_pad": "NOTSET", "dilations": [1, 1], "pads": [0, 0, 0, 0], "strides": [1, 1]}
_DEFAULTS: Mapping[str, dict[str, Any]] = {
    "Conv": {**_WINDOW, "group": 1},
    "Gemm": {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0},
    "MaxPool": {**_WINDOW, "ceil_mode": 0, "storage_order": 0},
}
_SAID_TWICE = {"Conv": {"kernel_shape"}}
"""Attributes that only repeat the weights' shape."""


def computed_alike(
    own: Node, theirs: Node, pairs: Mapping[str, str], constants: Collection[str], same: bool, image: Mapping[str, str]
) -> bool:
    """Whether both nodes compute one and the same of corresponding values: then nothing but a fault of the processor could make
    their results differ.

    ``pairs``: values of the prepared graph to the file's; ``constants``: the prepared graph's; ``same``: both multiply by the
    same constants; ``image``: what the rounded input of the file is called to what it was.
    """
    if own.op_type not in _OPERATORS or (own.op_type, own.domain) != (theirs.op_type, theirs.domain):
        return False
    if len(own.inputs) != len(theirs.inputs) or _attributes(own) != _attributes(theirs):
        return False
    if any(name.endswith(TURNED) for name in (*own.inputs, *own.outputs)):
        return False
    for mine, other in zip(own.inputs, theirs.inputs, strict=True):
        constant = mine in constants
        if (constant and not same) or (not constant and (not mine or pairs.get(mine) != image.get(other, other))):
            return False
    return True


def _attributes(node: Node) -> dict[str, Any]:
    """What the node's attributes say beyond their defaults."""
    defaults, repeated = _DEFAULTS.get(node.op_type, {}), _SAID_TWICE.get(node.op_type, set())
    return {
        name: value
        for name, value in node.attributes.items()
        if name not in repeated and not (name in defaults and defaults[name] == value)
    }
