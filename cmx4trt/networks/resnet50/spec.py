"""ResNet-50 v1.5 in a few numbers; see ``topology`` for its layers. Standard library only."""

from __future__ import annotations

from cmx4trt.graph.spec import ModelSpec

CLASSES = 1000
"""ImageNet's."""
STEM_CHANNELS = 64

SPEC = ModelSpec(
    name="resnet50",
    title="ResNet-50 v1.5",
    input_shape=(3, 224, 224),
    # The stem's output: 64 x 112 x 112; conv2_x has 256 x 56 x 56, the same number.
    largest_activation=64 * 112 * 112,
)
