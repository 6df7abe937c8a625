"""ResNet-50 v1.5: the data of the network and a generator of its exact topology with random weights.

Topology: He et al., "Deep Residual Learning for Image Recognition" (arXiv:1512.03385), table 1, column "50-layer"; v1.5
moves the stride of a down-sampling block from its first 1x1 to its 3x3 convolution. MLPerf Inference uses v1.5.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cmx4trt.graph.spec import ModelSpec, Task
from cmx4trt.ir.model import DType, Graph, Model, Node, Tensor, ValueInfo

if TYPE_CHECKING:
    import numpy as np

STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))
"""(blocks, bottleneck channels) of conv2_x … conv5_x."""
EXPANSION = 4
STEM_CHANNELS = 64
FEATURES = STAGES[-1][1] * EXPANSION
RESIDUAL_ADDS = sum(blocks for blocks, _ in STAGES)
CLASSES = (1000, 1001)
"""ImageNet's classes; TensorFlow's models (the MLPerf file among them) put a background class in front."""

RANDOM_CLASSES = 1001
RESIDUAL_GAIN = 0.5
"""Scale of each block's last random convolution. Without batch normalisation plain He weights would double the variance
in every block and leave float16's range; with this gain it grows by 1.25 (the branch is damped as in Fixup,
arXiv:1901.09321)."""


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
    task=Task.CLASSIFICATION,
    input_shape=(3, 224, 224),
    # The stem's output: 64 x 112 x 112; conv2_x has 256 x 56 x 56, the same number.
    largest_activation=64 * 112 * 112,
)


def model_from_seed(seed: int) -> Model:
    """ResNet-50 v1.5 with He-normal weights (arXiv:1502.01852, fan-in) and zero biases, drawn from ``seed``.

    Input ``input_tensor:0`` [N, 3, 224, 224] float32, output ``logits`` [N, 1001] float32. The same seed gives the same
    bytes with every numpy release that keeps PCG64's stream (NEP 19).
    """
    return _RandomNetwork(seed).model()


class _RandomNetwork:
    """Builds the graph layer by layer; the last value's name is what each layer returns."""

    def __init__(self, seed: int) -> None:
        import numpy as np

        self._np = np
        self._generator = np.random.Generator(np.random.PCG64(seed))
        self._graph = Graph(
            "resnet50_random",
            [],
            {},
            [ValueInfo("input_tensor:0", DType.FLOAT, ("N", *SPEC.input_shape))],
            [ValueInfo("logits", DType.FLOAT, ("N", RANDOM_CLASSES))],
        )

    def model(self) -> Model:
        value = self._relu(self._conv("input_tensor:0", STEM, "conv1"))
        value = self._add_node("MaxPool", [value], "pool1", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        for block in block_shapes():
            value = self._block(value, block)
        value = self._add_node("GlobalAveragePool", [value], "pool5")
        value = self._add_node("Flatten", [value], "flat")
        weight = self._he_normal((FEATURES, RANDOM_CLASSES), FEATURES)
        inputs = [value, self._constant("fc1000_weight", weight), self._zeros("fc1000_bias", RANDOM_CLASSES)]
        self._add_node("Gemm", inputs, "logits")
        return Model(self._graph, {"": 13}, 8)

    def _block(self, value: str, block: BlockShapes) -> str:
        branch = self._relu(self._conv(value, block.reduce, f"{block.name}_branch2a"))
        branch = self._relu(self._conv(branch, block.spatial, f"{block.name}_branch2b"))
        branch = self._conv(branch, block.expand, f"{block.name}_branch2c", RESIDUAL_GAIN)
        shortcut = self._conv(value, block.shortcut, f"{block.name}_branch1") if block.shortcut else value
        return self._relu(self._add_node("Add", [branch, shortcut], block.name))

    def _conv(self, value: str, shape: ConvShape, name: str, gain: float = 1.0) -> str:
        kernel = shape.kernel
        fan_in = shape.in_channels * kernel * kernel
        weight = self._he_normal((shape.out_channels, shape.in_channels, kernel, kernel), fan_in, gain)
        inputs = [value, self._constant(f"{name}_weight", weight), self._zeros(f"{name}_bias", shape.out_channels)]
        pad = kernel // 2
        return self._add_node(
            "Conv", inputs, name, kernel_shape=[kernel] * 2, strides=[shape.stride] * 2, pads=[pad] * 4
        )

    def _relu(self, value: str) -> str:
        return self._add_node("Relu", [value], f"{value}_relu")

    def _add_node(self, op_type: str, inputs: list[str], name: str, **attributes: list[int]) -> str:
        self._graph.nodes.append(Node(op_type, inputs, [name], dict(attributes), name))
        return name

    def _he_normal(self, shape: tuple[int, ...], fan_in: int, gain: float = 1.0) -> np.ndarray[Any, Any]:
        weight = self._generator.standard_normal(shape, dtype=self._np.float32)
        weight *= self._np.float32(gain * (2.0 / fan_in) ** 0.5)
        return weight

    def _constant(self, name: str, value: np.ndarray[Any, Any]) -> str:
        self._graph.initializers[name] = Tensor.from_numpy(name, value)
        return name

    def _zeros(self, name: str, size: int) -> str:
        return self._constant(name, self._np.zeros(size, self._np.float32))
