"""Bias correction: takes the mean error that rounded weights cause out of a layer's bias.

M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (arXiv:1906.04721), section 4.2,
with means measured on the calibration images. Activations behind Relu have positive means, so the rounding errors of a
channel's weights add up to a constant offset, which int8's finer points cannot repair but the bias can
(docs/decisions/021-bias-correction.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cmx4trt.ir.model import Graph, Node
from cmx4trt.quantize.placement import Placement

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def mean_channels(graph: Graph, placement: Placement) -> dict[str, int]:
    """The activations that means are needed of, and their numbers of channels: see ``mean_source``."""
    found: dict[str, int] = {}
    for weight in placement.weights:
        source = mean_source(placement, weight.node)
        if source is not None:
            channels = graph.initializers[weight.tensor].dims[1 - weight.axis]
            found[source] = channels * _groups(weight.node)
    return found


def mean_source(placement: Placement, node: Node) -> str | None:
    """The activation [N, C, H, W] whose channels have the means of the layer's input: the input itself, or what it is the
    average of; None for a matrix product of anything else."""
    name = node.inputs[0]
    return placement.bounds.get(name, name if node.op_type == "Conv" else None)


def kernel_error(exact: NDArray[Any], rounded: NDArray[Any], axis: int = 0) -> NDArray[np.float64]:
    """The rounding error of weights [M, C/G, …], summed over the kernel: [M, C/G]; ``axis`` is where M lies, 0 or 1."""
    import numpy as np

    error = (rounded.astype(np.float64) - exact).swapaxes(0, axis)
    summed: NDArray[np.float64] = error.reshape(*error.shape[:2], -1).sum(axis=2)
    return summed


def mean_error(node: Node, error: NDArray[np.float64], means: NDArray[Any]) -> NDArray[np.float32]:
    """The mean error [M] of a layer's output, given ``kernel_error`` and its input's channel means [C].

    Positions at the border, where a part of the kernel sees padding, count as if they saw the mean.
    """
    import numpy as np

    groups = _groups(node)
    by_group = error.reshape(groups, -1, error.shape[1])
    offset: NDArray[np.float64] = np.einsum("gmc,gc->gm", by_group, means.reshape(groups, -1).astype(np.float64))
    return offset.reshape(-1).astype(np.float32)


def _groups(node: Node) -> int:
    groups = node.attributes.get("group", 1)
    assert isinstance(groups, int)
    return groups
