"""Weights and constants of a network in the order in which the kernels read them.

Which thread of a warpgroup has which element of a matrix product is defined by the PTX ISA (9.7.15.5, wgmma fragments).
Rows of weights are permuted so that a thread ends up with 16 consecutive channels, and, if an accumulator becomes the
next product's operand without leaving its thread, the K dimension of the next weights is permuted as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cmx4trt.backends.hopper.network import Convolution

GROUP = 64
"""Number of output channels per epilogue step."""
RESIDUAL_FACTOR = 256.0
"""A residual byte x enters as 128 + x / 256 (epilogue.cuh, byte_as_float; network.py, Convolution.residual_bias)."""
SECTION = 256
"""Alignment of everything in the weights section, in bytes."""


def channel_of_column() -> NDArray[Any]:
    """The channel that each of 64 columns of a product computes: column 8j + 2t + e holds channel 16t + 2j + e. int64 [64]."""
    import numpy as np

    j, t, e = np.meshgrid(np.arange(8), np.arange(4), np.arange(2), indexing="ij")
    return (16 * t + 2 * j + e).reshape(-1)


def register_channels() -> NDArray[Any]:
    """The channel at each of 64 positions of K if an epilogue's bytes are directly used as the A operand. int64 [64].

    Position 32h + 16m + 4t + i is byte i of quarter 2h + m of thread column t, which holds channel 16t + 4(2h + m) + i.
    """
    import numpy as np

    h, m, t, i = np.meshgrid(np.arange(2), np.arange(2), np.arange(4), np.arange(4), indexing="ij")
    return (16 * t + 4 * (2 * h + m) + i).reshape(-1)


def channel_of_row() -> NDArray[Any]:
    """The channel of each of 64 rows if channels are the product's rows: g and g + 8 of a warp are neighbors. int64 [64]."""
    import numpy as np

    row = np.arange(64)
    return 16 * (row // 16) + 2 * (row % 8) + row // 8 % 2


def _grouped(order: NDArray[Any], count: int) -> NDArray[Any]:
    """``order`` (of 64) repeated for every group of ``count`` channels."""
    import numpy as np

    shifted: NDArray[Any] = np.add.outer(np.arange(0, count, GROUP), order)
    return shifted.reshape(-1)


def matrix(weights: NDArray[Any], k_from_registers: bool = False) -> NDArray[Any]:
    """Weights [N, R, S, C] as the B operand [N, R * S * C], int8, N in the columns' order.

    ``k_from_registers``: the A operand is an epilogue's output in registers (1x1 only).
    """
    import numpy as np

    flat = weights.reshape(len(weights), -1)
    if k_from_registers:
        flat = flat[:, _grouped(register_channels(), flat.shape[1])]
    return np.ascontiguousarray(flat[_grouped(channel_of_column(), len(flat))])


def rows_of_channels(weights: NDArray[Any]) -> NDArray[Any]:
    """Weights [64, K] as the A operand, int8, rows in the order of ``channel_of_row``."""
    import numpy as np

    return np.ascontiguousarray(weights[channel_of_row()])


def padded_rows(array: NDArray[Any], multiple: int) -> NDArray[Any]:
    """``array`` with zeros appended along its first axis up to a multiple of ``multiple``."""
    import numpy as np

    missing = -len(array) % multiple
    return np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)]) if missing else array


def stem_matrix(weights: NDArray[Any]) -> NDArray[Any]:
    """The stem's weights [64, 7, 7, 3] as the A operand [64, 256]: 4x4 taps of 2x2 pixels of 4 channels, zeros elsewhere."""
    import numpy as np

    square = np.zeros((64, 8, 8, 4), np.int8)
    square[:, 1:, 1:, :3] = weights  # padding 3 becomes 4: the window starts one pixel earlier, on an even one
    taps = square.reshape(64, 4, 2, 4, 2, 4).transpose(0, 1, 3, 2, 4, 5)
    return np.ascontiguousarray(taps.reshape(64, 256)[channel_of_row()])


def constants(multiplier: NDArray[Any], bias: NDArray[Any]) -> NDArray[Any]:
    """Multipliers and biases [N] of an epilogue, float32 [N / 64, 4 quarters, 2, 4 thread columns, 4 channels]."""
    import numpy as np

    both = np.stack([multiplier, bias]).astype(np.float32)
    shaped = both.reshape(2, -1, 4, 4, 4)  # multiplier or bias, group, thread column, quarter, channel
    return np.ascontiguousarray(shaped.transpose(1, 3, 0, 2, 4))


def residual_factor(multiplier: float) -> float:
    """256 times a residual's multiplier: exact in float32."""
    import numpy as np

    return float(np.float32(multiplier) * np.float32(RESIDUAL_FACTOR))


def constants_in_order(convolution: Convolution) -> NDArray[Any]:
    """Multipliers [N], then biases [N], float32 in channel order: for products whose rows are channels."""
    import numpy as np

    return np.concatenate([convolution.multiplier, convolution.bias]).astype(np.float32)


class Weights:
    """The weights section of an engine, written piece by piece."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._known: dict[str, int] = {}
        self._size = 0

    def add(self, key: str, array: NDArray[Any]) -> int:
        """The offset of ``array``'s bytes; a key that was already added refers to the same bytes."""
        if key not in self._known:
            data = array.tobytes()
            self._known[key] = self._size
            self._pieces.append(data + bytes(-len(data) % SECTION))
            self._size += len(self._pieces[-1])
        return self._known[key]

    def data(self) -> bytes:
        """All bytes so far."""
        return b"".join(self._pieces)
