"""ResNet-50 v1.5 as a quantized network with random weights, whose activations use their range."""

from __future__ import annotations

from typing import Any

import numpy as np

from cmx4trt.backends.hopper.network import (
    Activation,
    AveragePool,
    Classifier,
    Convolution,
    MaxPool,
    Network,
    Operation,
    Projection,
    Residual,
)

STAGES = ((256, 64, 3), (512, 128, 4), (1024, 256, 6), (2048, 512, 3))
"""Channels of the blocks' outputs, channels inside, blocks."""


class _Maker:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.activations: dict[str, Activation] = {}
        self.operations: list[Operation] = []

    def add(self, name: str, size: int, channels: int, signed: bool = False) -> str:
        self.activations[name] = Activation(name, size, size, channels, 0.02, signed)
        return name

    def weights(self, *shape: int) -> Any:
        return self.rng.integers(-127, 128, shape, dtype=np.int8)

    def multiplier(self, outputs: int, inputs: int, steps: float) -> Any:
        """Sums of ``inputs`` products of a random int8 and a random uint8 become about ``steps`` steps of the output."""
        spread = self.rng.uniform(0.5, 1.5, outputs) * steps / (73 * 100 * np.sqrt(inputs))
        return spread.astype(np.float32)

    def bias(self, outputs: int) -> Any:
        return self.rng.normal(20, 20, outputs).astype(np.float32)

    def convolve(self, name: str, source: str, outputs: int, kernel: int, stride: int, addend: Any = None) -> str:
        a = self.activations[source]
        weights = self.weights(outputs, kernel, kernel, a.channels)
        multiplier = self.multiplier(outputs, kernel * kernel * a.channels, 60)
        target = self.add(f"{name}_out", a.height // stride, outputs)
        padding = kernel // 2
        self.operations.append(
            Convolution(name, source, target, weights, multiplier, self.bias(outputs), stride, padding, addend)
        )
        return target

    def block(self, name: str, source: str, outputs: int, inside: int, stride: int, project: bool) -> str:
        channels = self.activations[source].channels
        reduced = self.convolve(f"{name}_1", source, inside, 1, 1)
        middle = self.convolve(f"{name}_2", reduced, inside, 3, stride)
        if project:
            weights = self.weights(outputs, 1, 1, channels)
            addend: Any = Projection(f"{name}_0", source, weights, self.multiplier(outputs, channels, 60), stride)
        else:
            addend = Residual(source, float(np.float32(0.7)))
        return self.convolve(f"{name}_3", middle, outputs, 1, 1, addend)


def random_resnet50(seed: int = 0, classes: int = 1000) -> Network:
    """The network; the same for the same seed."""
    maker = _Maker(seed)
    image = maker.add("image", 224, 3, signed=True)
    stem = maker.convolve("conv1", image, 64, 7, 2)
    current = maker.add("pool1_out", 56, 64)
    maker.operations.append(MaxPool("pool1", stem, current))
    for stage, (outputs, inside, blocks) in enumerate(STAGES):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            current = maker.block(f"s{stage + 2}b{block}", current, outputs, inside, stride, project=not block)
    mean = maker.add("pool5_out", 1, 2048)
    maker.operations.append(AveragePool("pool5", current, mean, float(np.float32(1 / 49))))
    multiplier, bias = maker.multiplier(classes, 2048, 5), maker.bias(classes)
    maker.operations.append(Classifier("fc", mean, maker.weights(classes, 2048), multiplier, bias))
    return Network(maker.activations[image], tuple(maker.operations), maker.activations)
