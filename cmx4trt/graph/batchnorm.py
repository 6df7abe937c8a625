"""Batch normalisation, folded into the convolutions before it.

y = (conv(x, W) + b) * scale + shift is conv(x, W * scale) + (b * scale + shift): exporters leave the right-hand
factors as BatchNormalization nodes (ResNet-50) or, for frozen batch norm, as Mul and Add of constants (torchvision's
RetinaNet). TensorRT does not fuse them across a Q/DQ pair, so they are folded before quantization.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cmx4trt.base.frozen import Frozen
from cmx4trt.errors import ModelError
from cmx4trt.ir.model import DType, Graph, Node, Tensor, fresh_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEFAULT_EPSILON = 1e-5
"""``epsilon`` of a BatchNormalization that does not carry it (onnx/docs/Operators.md)."""


class _Affine(Frozen):
    """One node y = x * scale + shift behind a convolution; the factors are float64 [C_out], None stands for 1 and 0."""

    node: Node
    scale: NDArray[Any] | None
    shift: NDArray[Any] | None


def fold_batch_norm(graph: Graph, steps: dict[str, NDArray[Any]] | None = None) -> int:
    """Fold every BatchNormalization, and Mul or Add of a constant per channel, that follows a Conv into that Conv.

    Requires: constants are initializers (no Constant or Identity nodes in between). Convolutions that share weights
    and factors share them afterwards too. Factors are combined in float64, weights scaled in float32; weights of other
    element types are left alone. Returns the number of nodes that are gone.

    ``steps``: weight -> what one step of its integers is worth, [C_out] or [1], where it has some; gets those of folded weights.
    """
    consumers = graph.consumers()
    outputs = {info.name for info in graph.outputs}
    used = graph.names()
    shared: dict[tuple[str, ...], tuple[str, str]] = {}
    gone: set[int] = set()
    for conv in graph.nodes:
        if conv.op_type != "Conv" or not _float_weight(graph, conv):
            continue
        chain = _affine_chain(graph, conv, consumers, outputs)
        if not chain:
            continue
        key = (*conv.inputs[1:], *(name for link in chain for name in _factor_names(graph, link.node)))
        if key not in shared:
            shared[key] = _store_folded(graph, conv, chain, used, {} if steps is None else steps)
        weight, bias = shared[key]
        conv.inputs = [conv.inputs[0], weight, *([bias] if bias else [])]
        conv.outputs = [chain[-1].node.outputs[0]]
        gone.update(id(link.node) for link in chain)
    if gone:
        graph.nodes = [node for node in graph.nodes if id(node) not in gone]
        graph.prune()
    return len(gone)


def _float_weight(graph: Graph, conv: Node) -> bool:
    tensors = [graph.initializers.get(name) for name in conv.inputs[1:] if name]
    return all(tensor is not None and tensor.dtype is DType.FLOAT for tensor in tensors)


def _affine_chain(graph: Graph, conv: Node, consumers: dict[str, list[Node]], outputs: set[str]) -> list[_Affine]:
    """The affine nodes behind ``conv``, as long as each is the only reader of the value before it."""
    weight_dims = graph.initializers[conv.inputs[1]].dims
    chain: list[_Affine] = []
    value = conv.outputs[0]
    while value not in outputs and len(consumers.get(value, [])) == 1:
        link = _affine_node(graph, consumers[value][0], value, weight_dims[0], len(weight_dims))
        if link is None:
            break
        chain.append(link)
        value = link.node.outputs[0]
    return chain


def _affine_node(graph: Graph, node: Node, value: str, channels: int, rank: int) -> _Affine | None:
    if node.op_type == "BatchNormalization":
        return _batch_normalization(graph, node, value, channels)
    if node.op_type not in ("Mul", "Add") or len(node.inputs) != 2 or node.inputs[0] == node.inputs[1]:
        return None
    other = node.inputs[1] if node.inputs[0] == value else node.inputs[0]
    factor = _per_channel(graph.initializers.get(other), channels, rank)
    if factor is None:
        return None
    return _Affine(node, factor, None) if node.op_type == "Mul" else _Affine(node, None, factor)


def _batch_normalization(graph: Graph, node: Node, value: str, channels: int) -> _Affine | None:
    import numpy as np

    if node.inputs[0] != value:
        return None
    constants = [graph.initializers.get(name) for name in node.inputs[1:5]]
    for constant in constants:
        if constant is not None and constant.dims != (channels,):
            raise ModelError(
                f"constant '{constant.name}' of {node.label()} has shape {list(constant.dims)}, expected [{channels}], one for "
                "each channel; export the model again"
            )
    factors = [_per_channel(constant, channels, 2) for constant in constants]
    known = [factor for factor in factors if factor is not None]
    one_result = sum(map(bool, node.outputs)) == 1
    if len(known) != 4 or not one_result or node.attributes.get("training_mode", 0):
        return None
    gamma, beta, mean, variance = known
    epsilon = node.attributes.get("epsilon", DEFAULT_EPSILON)
    with np.errstate(divide="ignore", invalid="ignore"):  # a variance below zero gives NaN, which verification refuses
        scale = gamma / np.sqrt(variance + float(epsilon))  # type: ignore[arg-type]
    return _Affine(node, scale, beta - mean * scale)


def _per_channel(tensor: Tensor | None, channels: int, rank: int) -> NDArray[Any] | None:
    """A constant that broadcasts to [1, C, 1, …] as float64 [C]; None for any other (one along a spatial axis, say)."""
    import numpy as np

    if tensor is None or tensor.dtype is not DType.FLOAT or len(tensor.dims) > rank:
        return None
    dims = (1,) * (rank - len(tensor.dims)) + tensor.dims
    if dims[1] not in (1, channels) or any(size != 1 for axis, size in enumerate(dims) if axis != 1):
        return None
    return np.broadcast_to(tensor.numpy().astype(np.float64).reshape(-1), (channels,))


def _factor_names(graph: Graph, node: Node) -> list[str]:
    """What tells the node's factors from those of another convolution's node."""
    constants = [name for name in node.inputs if name in graph.initializers]
    return [node.op_type, str(node.attributes.get("epsilon", DEFAULT_EPSILON)), *constants]


def _store_folded(
    graph: Graph, conv: Node, chain: list[_Affine], used: set[str], steps: dict[str, NDArray[Any]]
) -> tuple[str, str]:
    """Add the folded weight and bias as constants; return their names ('' for no bias)."""
    import numpy as np

    weight = graph.initializers[conv.inputs[1]].numpy()
    channels = weight.shape[0]
    has_bias = len(conv.inputs) > 2 and bool(conv.inputs[2])
    scale = np.ones(channels)
    bias = graph.initializers[conv.inputs[2]].numpy().astype(np.float64) if has_bias else np.zeros(channels)
    for link in chain:
        if link.scale is not None:
            scale, bias = scale * link.scale, bias * link.scale
        if link.shift is not None:
            bias, has_bias = bias + link.shift, True
    if any(link.scale is not None for link in chain):
        weight = weight * scale.astype(np.float32).reshape(-1, *[1] * (weight.ndim - 1))
        weight_name = _add_constant(graph, conv.inputs[1], weight, used)
        if conv.inputs[1] in steps:
            steps[weight_name] = steps[conv.inputs[1]] * np.abs(scale)
    else:
        weight_name = conv.inputs[1]
    bias_name = _add_constant(graph, f"{weight_name}_bias", bias.astype(np.float32), used) if has_bias else ""
    return weight_name, bias_name


def _add_constant(graph: Graph, wanted: str, array: NDArray[Any], used: set[str]) -> str:
    name = fresh_name(wanted, used)
    graph.initializers[name] = Tensor.from_numpy(name, array)
    return name
