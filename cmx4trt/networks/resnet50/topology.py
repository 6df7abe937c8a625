"""ResNet-50 v1.5: the data of the network.

Topology: He et al., "Deep Residual Learning for Image Recognition" (arXiv:1512.03385), table 1, column "50-layer"; v1.5
moves the stride of a down-sampling block from its first 1x1 to its 3x3 convolution. MLPerf Inference uses v1.5.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from cmx4trt.graph.spec import ModelSpec

STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))
"""(blocks, bottleneck channels) of conv2_x … conv5_x."""
EXPANSION = 4
STEM_CHANNELS = 64
LAST_GRID = (7, 7)
"""Height and width of the last feature map."""
FEATURES = STAGES[-1][1] * EXPANSION
RESIDUAL_ADDS = sum(blocks for blocks, _ in STAGES)
CLASSES = (1000, 1001)
"""ImageNet's classes; TensorFlow's models (the MLPerf file among them) put a background class in front."""


@dataclass(frozen=True, slots=True)
class ConvShape:
    """A convolution's weight shape [M, C, K, K] and its stride."""

    out_channels: int
    in_channels: int
    kernel: int
    stride: int

    def __str__(self) -> str:
        """Kernel, stride and channels, for error messages."""
        return f"{self.kernel}x{self.kernel}/{self.stride} {self.in_channels}->{self.out_channels}"


@dataclass(frozen=True, slots=True)
class BlockShapes:
    """The convolutions of one bottleneck block; ``shortcut`` is None where the identity is added."""

    name: str
    reduce: ConvShape
    spatial: ConvShape
    expand: ConvShape
    shortcut: ConvShape | None


STEM = ConvShape(STEM_CHANNELS, 3, 7, 2)


def block_shapes() -> list[BlockShapes]:
    """All blocks in order, named as in the original model: res2a … res5c."""
    blocks: list[BlockShapes] = []
    channels = STEM_CHANNELS
    for stage, (count, width) in enumerate(STAGES, start=2):
        for index in range(count):
            stride = 2 if index == 0 and stage > 2 else 1
            shortcut = ConvShape(width * EXPANSION, channels, 1, stride) if index == 0 else None
            blocks.append(
                BlockShapes(
                    f"res{stage}{chr(ord('a') + index)}",
                    ConvShape(width, channels, 1, 1),
                    ConvShape(width, width, 3, stride),
                    ConvShape(width * EXPANSION, width, 1, 1),
                    shortcut,
                )
            )
            channels = width * EXPANSION
    return blocks


def expected_convolutions() -> Counter[ConvShape]:
    """How often each convolution occurs: 53 in all."""
    shapes = Counter([STEM])
    for block in block_shapes():
        shapes.update(s for s in (block.reduce, block.spatial, block.expand, block.shortcut) if s)
    return shapes


SPEC = ModelSpec(
    name="resnet50",
    title="ResNet-50 v1.5",
    input_shape=(3, 224, 224),
    # The stem's output: 64 x 112 x 112; conv2_x has 256 x 56 x 56, the same number.
    largest_activation=64 * 112 * 112,
)
