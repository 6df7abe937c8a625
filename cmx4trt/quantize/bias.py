"""Bias correction: takes the mean error that rounded weights cause out of a convolution's bias.

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
    """The inputs of the convolutions to quantize and their numbers of channels: where means are needed."""
    convolutions = [weight for weight in placement.weights if weight.node.op_type == "Conv"]
    return {w.node.inputs[0]: graph.initializers[w.tensor].dims[1] * _groups(w.node) for w in convolutions}


def kernel_error(exact: NDArray[Any], rounded: NDArray[Any]) -> NDArray[np.float64]:
    """The rounding error of convolution weights [M, C/G, KH, KW], summed over the kernel: [M, C/G]."""
    import numpy as np

    error: NDArray[np.float64] = (rounded.astype(np.float64) - exact).reshape(*exact.shape[:2], -1).sum(axis=2)
    return error


def mean_error(node: Node, error: NDArray[np.float64], means: NDArray[Any]) -> NDArray[np.float32]:
    """The mean error [M] of a convolution's output, given ``kernel_error`` and its input's channel means [C].

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
