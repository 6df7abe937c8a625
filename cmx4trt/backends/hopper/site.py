"""Construction of launches: the network's tensors as kernel arguments, and the weights section that grows with them."""

from __future__ import annotations

from dataclasses import dataclass

from cmx4trt.backends.hopper import packing
from cmx4trt.backends.hopper.network import Activation, Classifier, Convolution, Network, Projection, Residual
from cmx4trt.backends.hopper.plan import (
    Amount,
    Argument,
    Grid,
    Kernel,
    Launch,
    Place,
    TiledMap,
    WindowMap,
)

SHARED_BYTES = 232448
"""Maximum shared memory per block on compute capability 9.0 (CUDA C++ Programming Guide, Technical Specifications)."""
CHUNK = 128
"""Channels in one stage of a product: rows of 128 bytes, the widest swizzle."""
TILE = 64
"""Rows of one wgmma."""


LaunchParts = tuple[Grid, tuple[Argument, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]
"""Grid, arguments, operations, reads, writes."""


@dataclass(frozen=True, slots=True)
class Made:
    """A launch and the kernel it needs."""

    kernel: Kernel
    launch: Launch


class Site:
    """A network and the weights section that its launches read."""

    def __init__(self, network: Network, weights: packing.Weights) -> None:
        self.network = network
        self.weights = weights

    def activation(self, name: str) -> Activation:
        """An activation by name."""
        return self.network.activations[name]

    def pixels(self, name: str) -> Amount:
        """Pixels of an activation in all images of a batch."""
        activation = self.activation(name)
        return Amount(activation.height * activation.width)

    def rows(self, name: str, tile: int) -> TiledMap:
        """An activation as a matrix [pixels, channels]; a box is ``tile`` pixels of 128 channels."""
        channels = self.activation(name).channels
        return TiledMap(
            Place("buffer", name), (Amount(0, channels), self.pixels(name)), (channels,), (CHUNK, tile), CHUNK
        )

    def images(self, name: str, channels: int, width: int, height: int) -> TiledMap:
        """An activation as [images, rows, columns, channels]; a box is one image's ``height`` x ``width`` pixels."""
        a = self.activation(name)
        extents = (Amount(0, a.channels), Amount(0, a.width), Amount(0, a.height), Amount(1))
        strides = (a.channels, a.channels * a.width, a.channels * a.width * a.height)
        return TiledMap(Place("buffer", name), extents, strides, (channels, width, height, 1), channels)

    def window(self, name: str, kernel: int, padding: int, stride: int, pixels: int) -> WindowMap:
        """An activation in im2col mode: ``pixels`` output pixels of 128 channels at one tap."""
        a = self.activation(name)
        return WindowMap(
            Place("buffer", name),
            Amount(1),
            a.height,
            a.width,
            a.channels,
            kernel,
            padding,
            stride,
            CHUNK,
            pixels,
            CHUNK,
        )

    def matrix(
        self, convolution: Convolution | Projection, box: tuple[int, int], k_from_registers: bool = False
    ) -> TiledMap:
        """A convolution's weights as the B operand; ``box`` is (bytes of K, rows of N)."""
        packed = packing.matrix(convolution.weights, k_from_registers)
        offset = self.weights.add(f"{convolution.name}:{k_from_registers}", packed)
        return matrix_map(offset, packed.shape, box)

    def rows_of_channels(self, convolution: Convolution, box: tuple[int, int]) -> tuple[TiledMap, Place]:
        """A 1x1 convolution's weights as the A operand (a thread has two channels), and its constants in channel order."""
        flat = convolution.weights.reshape(len(convolution.weights), -1)
        offset = self.weights.add(f"{convolution.name}:rows", packing.rows_of_channels(flat))
        constants = self.weights.add(f"{convolution.name}:in order", packing.constants_in_order(convolution))
        return matrix_map(offset, flat.shape, box), Place("weights", offset=constants)

    def classifier(self, operation: Classifier, box: tuple[int, int]) -> tuple[TiledMap, Place]:
        """The last matrix product's weights and epilogue constants, classes padded with zeros to a multiple of 128."""
        weights = packing.matrix(packing.padded_rows(operation.weights, CHUNK))
        multiplier, bias = (packing.padded_rows(values, CHUNK) for values in (operation.multiplier, operation.bias))
        offset = self.weights.add(operation.name, weights)
        table = self.weights.add(f"{operation.name}:constants", packing.constants(multiplier, bias))
        return matrix_map(offset, weights.shape, box), Place("weights", offset=table)

    def constants(self, convolution: Convolution) -> Place:
        """A convolution's epilogue constants, including those for its addend."""
        residual = isinstance(convolution.addend, Residual)
        bias = convolution.residual_bias() if residual else convolution.bias
        table = packing.constants(convolution.multiplier, bias)
        return Place("weights", offset=self.weights.add(f"{convolution.name}:constants", table))

    def projection_constants(self, convolution: Convolution) -> Place:
        """The multipliers of a projection, with zeros; for a convolution without one, its own constants (not read)."""
        if not isinstance(convolution.addend, Projection):
            return self.constants(convolution)
        multiplier = convolution.addend.multiplier
        table = packing.constants(multiplier, 0 * multiplier)
        return Place("weights", offset=self.weights.add(f"{convolution.addend.name}:constants", table))


def matrix_map(offset: int, shape: tuple[int, ...], box: tuple[int, int]) -> TiledMap:
    """A matrix [rows, K] in the weights section; ``box`` is (bytes of K, rows)."""
    rows, k = shape
    return TiledMap(Place("weights", offset=offset), (Amount(0, k), Amount(0, rows)), (k,), box, box[0])


def made(
    source: str,
    constants: dict[str, int],
    threads: int,
    shared: int,
    launch: LaunchParts,
    cluster: int = 1,
) -> Made:
    """A launch of an instance of ``source``. ``launch`` has grid, arguments, operations, reads, writes."""
    name = "_".join([source.removesuffix(".cu"), *(str(value) for value in constants.values())])
    kernel = Kernel(name, source, constants, threads, shared, cluster)
    grid, arguments, operations, reads, writes = launch
    return Made(kernel, Launch(name, grid, arguments, operations, reads, writes))


def residual_of(convolution: Convolution) -> tuple[str, float]:
    """The input of a convolution's residual and its argument; without one its own input (not read) and zero."""
    if isinstance(convolution.addend, Residual):
        return convolution.addend.input, packing.residual_factor(convolution.addend.multiplier)
    return convolution.output, 0.0


def tiles_of(activation: Activation, tile: int, factor: int = 1) -> Amount:
    """At least the number of tiles of ``tile`` pixels in a batch, times ``factor``."""
    return Amount(-(-activation.height * activation.width // tile) * factor)
