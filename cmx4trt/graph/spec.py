"""The sizes of a network, known before any file is opened."""

from __future__ import annotations

from cmx4trt.base.frozen import Frozen, field

MAX_TENSOR_ELEMENTS = 2**31 - 1
"""TensorRT tensors hold at most this many elements (ICudaEngine and IOptimizationProfile: volume below 2^31)."""


class ModelSpec(Frozen):
    """Names, shapes and limits of a network.

    ``input_shape`` is [C, H, W]; ``largest_activation`` counts the elements of the largest tensor of one sample;
    ``details`` holds what only this model has.
    """

    name: str
    title: str
    input_shape: tuple[int, int, int]
    largest_activation: int
    details: object = field(default=None)

    @property
    def max_batch_size(self) -> int:
        """The largest batch whose tensors TensorRT can address."""
        return MAX_TENSOR_ELEMENTS // self.largest_activation
