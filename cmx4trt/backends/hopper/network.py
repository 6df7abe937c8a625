"""A quantized network as data: what is computed, with which integers and float32 constants; independent of ONNX.

``reference.py`` defines bit for bit what every operation computes, ``schedule.py`` which kernels compute it.
All activations are 8 bit, [N, H, W, C]. A tensor's real value is ``scale`` times its stored integer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Activation:
    """An 8-bit tensor between two operations; one image is [height, width, channels]."""

    name: str
    height: int
    width: int
    channels: int
    scale: float
    signed: bool = False
    """int8 (the network's input) or uint8 (everything after a ReLU)."""


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """A 1x1 convolution of a block's input, added to the block's main branch before rounding, never stored separately."""

    name: str
    input: str
    weights: NDArray[Any]
    """int8 [N, 1, 1, C]."""
    multiplier: NDArray[Any]
    """float32 [N]: output steps per unit of the integer sum. The bias is part of the main branch's."""
    stride: int


@dataclass(frozen=True, slots=True)
class Residual:
    """A stored activation that is added to a convolution before rounding."""

    input: str
    multiplier: float
    """A float32 value: output steps per step of ``input``."""


RESIDUAL_OFFSET = 32768.0
"""256 * 128: see ``Convolution.residual_bias``."""


@dataclass(frozen=True, slots=True, eq=False)
class Convolution:
    """Convolution, bias, one addend, ReLU and requantization as one operation; the output is uint8, and clipping implements the
    ReLU."""

    name: str
    input: str
    output: str
    weights: NDArray[Any]
    """int8 [N, R, S, C] with R = S."""
    multiplier: NDArray[Any]
    """float32 [N]: output steps per unit of the integer sum."""
    bias: NDArray[Any]
    """float32 [N], in output steps; with a projection it holds the sum of both biases."""
    stride: int
    padding: int
    addend: Residual | Projection | None = None

    def residual_bias(self) -> NDArray[Any]:
        """The constant to which a residual is added instead of ``bias``, float32 [N]: ``bias`` minus 32768 steps of its input.

        A byte x becomes the float32 value 128 + x/256 with one byte permutation; 256 * multiplier times that is the
        residual plus 32768 * multiplier, which this constant compensates (reference.py).
        """
        import numpy as np

        assert isinstance(self.addend, Residual)
        return (self.bias.astype(np.float64) - RESIDUAL_OFFSET * self.addend.multiplier).astype(np.float32)


@dataclass(frozen=True, slots=True)
class MaxPool:
    """Maximum over 3x3 windows, stride 2; the scale stays."""

    name: str
    input: str
    output: str
    padding: int = 1
    """Padding before the first row and column, 1 (PyTorch) or 0 (TensorFlow's SAME, as in the MLPerf file); the last
    window may extend one pixel beyond the edge. Pixels outside never win."""


@dataclass(frozen=True, slots=True)
class AveragePool:
    """Mean over a whole image, requantized: [N, H, W, C] -> [N, 1, 1, C]."""

    name: str
    input: str
    output: str
    multiplier: float
    """A float32 value: output steps per unit of the integer sum over all pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Classifier:
    """The last matrix product: logits [N, classes] float32, and the class with the largest one (the first in case of ties)."""

    name: str
    input: str
    weights: NDArray[Any]
    """int8 [classes, C]."""
    multiplier: NDArray[Any]
    """float32 [classes]: the logit per unit of the integer sum."""
    bias: NDArray[Any]
    """float32 [classes]."""


Operation = Convolution | MaxPool | AveragePool | Classifier


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Operations in execution order over named activations."""

    input: Activation
    operations: tuple[Operation, ...]
    activations: dict[str, Activation] = field(default_factory=dict)
    """All activations by name, including the input."""

    @property
    def classifier(self) -> Classifier:
        """The operation that computes the outputs."""
        last = self.operations[-1]
        assert isinstance(last, Classifier)
        return last
