"""ResNet-50 v1.5 with random weights: the exact topology, drawn from a seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cmx4trt.ir.model import DType, Graph, Model, Node, Tensor, ValueInfo
from cmx4trt.networks.resnet50.spec import SPEC
from cmx4trt.networks.resnet50.topology import FEATURES, STEM, BlockShapes, ConvShape, block_shapes

if TYPE_CHECKING:
    import numpy as np

RANDOM_CLASSES = 1001
RESIDUAL_GAIN = 0.5
"""Scale of each block's last random convolution. Without batch normalisation plain He weights would double the variance
in every block and leave float16's range; with this gain it grows by 1.25 (the branch is damped as in Fixup,
arXiv:1901.09321)."""


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
