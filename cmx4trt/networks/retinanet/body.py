"""The part of a detector between its normalized images and its heads: static shapes, free batch, no shape arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cmx4trt.errors import ModelError
from cmx4trt.graph.constants import evaluate_values, nodes_before
from cmx4trt.graph.spec import ModelSpec
from cmx4trt.ir.model import DType, Model, Node, Tensor, fresh_name
from cmx4trt.networks.base import wrong_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

Shape = tuple[int, ...]
"""[C, H, W] of a value [N, C, H, W]."""

_ELEMENTWISE = {"Relu", "BatchNormalization", "Add", "Sub", "Mul", "Div", "LeakyRelu", "Clip", "HardSwish"}
_POOLING = {"Conv", "MaxPool"}
_COMPUTED_WEIGHTS = {"Add", "Sub", "Mul", "Div", "BatchNormalization"}
_SIZES, _SCALES = 3, 2
"""Places of Resize's inputs (onnx/docs/Operators.md)."""


def fold_weight_expressions(model: Model, image: str, heads: list[str]) -> int:
    """Between ``image`` and ``heads``, turn operands computed from constants alone into constants; returns how many there were.

    Files exported without constant folding compute the factors of frozen batch normalization in the graph.
    """
    graph = model.graph
    constant, features = set(graph.initializers), {image}
    wanted: dict[str, None] = {}
    for node in nodes_before(graph, heads, {image}):
        if node.inputs and all(name in constant for name in node.inputs if name):
            constant.update(node.outputs)
        elif node.op_type != "Shape" and any(name in features for name in node.inputs):
            features.update(node.outputs)
            if node.op_type in _COMPUTED_WEIGHTS:
                wanted |= {name: None for name in node.inputs if name in constant and name not in graph.initializers}
    if wanted:
        for name, array in evaluate_values(model, list(wanted), DType.FLOAT, {}).items():
            graph.initializers[name] = Tensor.from_numpy(name, array)
        graph.nodes = [node for node in graph.nodes if not wanted.keys() & set(node.outputs)]
    return len(wanted)


def fix_shapes(model: Model, image: str, heads: list[str], spec: ModelSpec, batch: int = 1) -> dict[str, Shape]:
    """The shapes [C, H, W] of all values between ``image`` and ``heads``; Resize gets constant scales instead of sizes.

    ``batch``: images that the file takes at a time.

    Requires: computed weights are folded. Ensures: the batch dimension of these values is free. Raises ModelError where
    another operator than those of torchvision's RetinaNet lies in between.
    """
    graph = model.graph
    shapes: dict[str, Shape] = {image: spec.input_shape}
    used = graph.names()
    for node in nodes_before(graph, heads, {image}):
        if node.op_type == "Shape" or not any(name in shapes for name in node.inputs):
            continue  # arithmetic on shapes: evaluated where a Resize needs it
        try:
            shapes[node.outputs[0]] = _output_shape(model, node, shapes, used, batch)
        except (ValueError, IndexError, KeyError) as error:
            raise ModelError(f"cannot follow {node.label()} of {spec.title}: {error}; give the right file") from error
    missing = [name for name in heads if name not in shapes]
    if missing:
        raise wrong_model(spec, f"a head '{missing[0]}' that does not depend on the image", "a head on image features")
    return shapes


def _output_shape(model: Model, node: Node, shapes: dict[str, Shape], used: set[str], batch: int) -> Shape:
    """[C, H, W] of the node's result. Raises ValueError for what does not belong between images and heads."""
    if node.op_type in _POOLING:
        return _pooled(model, node, shapes[node.inputs[0]])
    if node.op_type in _ELEMENTWISE:
        per_channel = node.op_type == "BatchNormalization"
        constants = [] if per_channel else [name for name in node.inputs if name and name not in shapes]
        operands = [shapes[name] for name in node.inputs if name in shapes]
        operands += [model.graph.initializers[name].dims[-3:] for name in constants]
        return _broadcast(operands)
    if node.op_type == "Resize":
        return _resized(model, node, shapes, used, batch)
    known = ", ".join(sorted(_POOLING | _ELEMENTWISE | {"Resize"}))
    raise ValueError(f"only {known} are expected between the image and the heads")


def _pooled(model: Model, node: Node, shape: Shape) -> Shape:
    """The sliding-window formula of Conv and MaxPool (onnx/docs/Operators.md, MaxPool)."""
    if node.attributes.get("auto_pad", "NOTSET") != "NOTSET" or node.attributes.get("ceil_mode", 0):
        raise ValueError("auto_pad and ceil_mode are not supported")
    weight = model.graph.initializers[node.inputs[1]].dims if node.op_type == "Conv" else None
    kernel = weight[2:] if weight else tuple(node.ints("kernel_shape", []))
    pads, strides, dilations = (
        node.ints(name, default) for name, default in (("pads", [0] * 4), ("strides", [1] * 2), ("dilations", [1] * 2))
    )
    size = [
        (shape[1 + axis] + pads[axis] + pads[axis + 2] - dilations[axis] * (kernel[axis] - 1) - 1) // strides[axis] + 1
        for axis in range(2)
    ]
    return (weight[0] if weight else shape[0], *size)


def _broadcast(shapes: list[Shape]) -> Shape:
    """The common shape of elementwise operands."""
    rank = max(len(shape) for shape in shapes)
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    result = tuple(max(sizes) for sizes in zip(*padded, strict=True))
    if any(size not in (1, want) for shape in padded for size, want in zip(shape, result, strict=True)):
        raise ValueError(f"its operands have the shapes {', '.join(map(str, shapes))}")
    return result


def _resized(model: Model, node: Node, shapes: dict[str, Shape], used: set[str], batch: int) -> Shape:
    """The result's shape; sizes or scales of any origin become a constant of scales [1, 1, H'/H, W'/W]."""
    import numpy as np

    channels, *size = shapes[node.inputs[0]]
    place = _SIZES if len(node.inputs) > _SIZES and node.inputs[_SIZES] else _SCALES
    name = node.inputs[place]
    if name in model.graph.initializers:
        values = model.graph.initializers[name].numpy()
    else:
        dtype = DType.INT64 if place == _SIZES else DType.FLOAT
        values = evaluate_values(model, [name], dtype, shape_values(model, shapes, batch))[name]
    target = (
        [int(v) for v in values[2:]] if place == _SIZES else [int(s * v) for s, v in zip(size, values[2:], strict=True)]
    )
    if any(new % old for new, old in zip(target, size, strict=True)):
        raise ValueError(f"it resizes {size} to {target}, expected whole multiples")
    scales = np.array([1, 1, *(new // old for new, old in zip(target, size, strict=True))], np.float32)
    constant = fresh_name(f"{node.outputs[0]}_scales", used)
    model.graph.initializers[constant] = Tensor.from_numpy(constant, scales)
    node.inputs = [node.inputs[0], "", constant]
    return (channels, *target)


def shape_values(model: Model, shapes: Mapping[str, Shape], batch: int) -> dict[str, NDArray[Any]]:
    """What the Shape nodes behind values of known shape yield, for ``batch`` images."""
    import numpy as np

    results = {}
    for node in model.graph.nodes:
        if node.op_type == "Shape" and node.inputs[0] in shapes:
            dims = (batch, *shapes[node.inputs[0]])
            start, end = node.attributes.get("start", 0), node.attributes.get("end", len(dims))
            assert isinstance(start, int)
            assert isinstance(end, int)
            results[node.outputs[0]] = np.array(dims[start:end], np.int64)
    return results
