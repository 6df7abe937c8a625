"""ResNet-50 v1.5: the data of the network.

Topology: He et al., "Deep Residual Learning for Image Recognition" (arXiv:1512.03385), table 1, column "50-layer"; v1.5
moves the stride of a down-sampling block from its first 1x1 to its 3x3 convolution. MLPerf Inference uses v1.5.
"""

from __future__ import annotations

from collections.abc import Iterator

from cmx4trt.base.frozen import Frozen
from cmx4trt.networks.recognition import IMAGE, Layer, Window
from cmx4trt.networks.resnet50.spec import STEM_CHANNELS

STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))
"""(blocks, bottleneck channels) of conv2_x … conv5_x."""
EXPANSION = 4
LAST_GRID = (7, 7)
"""Height and width of the last feature map."""
FEATURES = STAGES[-1][1] * EXPANSION
HEAD_SIZES = range(2, 100_001)
"""Numbers of logits that a file may have: ImageNet's 1000 classes, 1001 with the background class that TensorFlow's models (the
MLPerf file among them) put in front, or those of the data set that it was trained for."""
POOLED = "pool5"


class ConvShape(Frozen):
    """A convolution's weight shape [M, C, K, K] and its stride."""

    out_channels: int
    in_channels: int
    kernel: int
    stride: int

    def __str__(self) -> str:
        """Kernel, stride and channels, for error messages."""
        return f"{self.kernel}x{self.kernel}/{self.stride} {self.in_channels}->{self.out_channels}"


class BlockShapes(Frozen):
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


def layers() -> list[Layer]:
    """The whole network between image and pooled features, named as in the original model: conv1, pool1, res2a_branch2a, …."""
    found = [*_activated("conv1", IMAGE, STEM, "the first convolution")]
    window = Window(3, 2, same=True)
    found.append(Layer("pool1", "MaxPool", (found[-1].name,), "the max pool", window))
    for number, block in enumerate(block_shapes(), 1):
        found += _block_layers(block, found[-1].name, f"block {number}")
    found.append(Layer(POOLED, "GlobalAveragePool", (found[-1].name,), "the mean over H and W"))
    return found


CONVOLUTIONS = 1 + sum(3 * blocks + 1 for blocks, _ in STAGES)
"""53: the stem, three in each block, and a shortcut in each stage."""


def _block_layers(block: BlockShapes, source: str, place: str) -> Iterator[Layer]:
    name, shortcut = block.name, source
    if block.shortcut:
        shortcut = f"{name}_branch1"
        yield _convolution(shortcut, source, block.shortcut, f"the shortcut's convolution of {place}")
    yield from _activated(f"{name}_branch2a", source, block.reduce, f"the first 1x1 convolution of {place}")
    yield from _activated(f"{name}_branch2b", f"{name}_branch2a_relu", block.spatial, f"the 3x3 convolution of {place}")
    expand = f"{name}_branch2c"
    yield _convolution(expand, f"{name}_branch2b_relu", block.expand, f"the last 1x1 convolution of {place}")
    yield Layer(name, "Add", (expand, shortcut), f"the addition of {place}")
    yield Layer(f"{name}_relu", "Relu", (name,), f"the ReLU of {place}")


def _activated(name: str, source: str, shape: ConvShape, place: str) -> Iterator[Layer]:
    yield _convolution(name, source, shape, place)
    yield Layer(f"{name}_relu", "Relu", (name,), f"the ReLU after {place}")


def _convolution(name: str, source: str, shape: ConvShape, place: str) -> Layer:
    window = Window(shape.kernel, shape.stride, shape.in_channels, shape.out_channels, same=shape.kernel > 1)
    return Layer(name, "Conv", (source,), place, window)
