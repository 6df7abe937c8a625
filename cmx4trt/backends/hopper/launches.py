"""One function for each kernel family: operations of a network -> the compiled instance and the launch that compute them."""

from __future__ import annotations

from dataclasses import dataclass

from cmx4trt.backends.hopper import packing
from cmx4trt.backends.hopper.network import (
    Activation,
    AveragePool,
    Classifier,
    Convolution,
    Network,
    Projection,
    Residual,
)
from cmx4trt.backends.hopper.plan import (
    Amount,
    Argument,
    Float,
    Grid,
    Kernel,
    Launch,
    Place,
    TiledMap,
    WindowMap,
)

SHARED_BYTES = 232448
"""Shared memory that a block can have on compute capability 9.0 (CUDA C++ Programming Guide, Technical Specifications)."""
CHUNK = 128
"""Channels in one stage of a product: rows of 128 bytes, the widest swizzle."""
TILE = 64
"""Rows of one wgmma."""


@dataclass(frozen=True, slots=True)
class Made:
    """A launch and the kernel it needs."""

    kernel: Kernel
    launch: Launch


class Site:
    """Where launches are made: the network they belong to and the weights section they read."""

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
        return _matrix_map(offset, packed.shape, box)

    def rows_of_channels(self, convolution: Convolution, box: tuple[int, int]) -> tuple[TiledMap, Place]:
        """A 1x1 convolution's weights as the A operand (a thread has two channels), and its constants in channel order."""
        flat = convolution.weights.reshape(len(convolution.weights), -1)
        offset = self.weights.add(f"{convolution.name}:rows", packing.rows_of_channels(flat))
        constants = self.weights.add(f"{convolution.name}:in order", packing.constants_in_order(convolution))
        return _matrix_map(offset, flat.shape, box), Place("weights", offset=constants)

    def constants(self, convolution: Convolution) -> Place:
        """A convolution's epilogue constants, with what its addend asks for."""
        bias = convolution.bias
        if isinstance(convolution.addend, Residual):
            bias = packing.residual_bias(bias, convolution.addend.multiplier)
        table = packing.constants(convolution.multiplier, bias)
        return Place("weights", offset=self.weights.add(f"{convolution.name}:constants", table))

    def projection_constants(self, convolution: Convolution) -> Place:
        """The multipliers of a projection, beside zeros; for a convolution without one, its own constants (not read)."""
        if not isinstance(convolution.addend, Projection):
            return self.constants(convolution)
        multiplier = convolution.addend.multiplier
        table = packing.constants(multiplier, 0 * multiplier)
        return Place("weights", offset=self.weights.add(f"{convolution.addend.name}:constants", table))


def _matrix_map(offset: int, shape: tuple[int, ...], box: tuple[int, int]) -> TiledMap:
    rows, k = shape
    return TiledMap(Place("weights", offset=offset), (Amount(0, k), Amount(0, rows)), (k,), box, box[0])


def _made(
    source: str,
    constants: dict[str, int],
    threads: int,
    shared: int,
    launch: tuple[Grid, tuple[Argument, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]],
    cluster: int = 1,
) -> Made:
    name = "_".join([source.removesuffix(".cu"), *(str(value) for value in constants.values())])
    kernel = Kernel(name, source, constants, threads, shared, cluster)
    grid, arguments, operations, reads, writes = launch
    return Made(kernel, Launch(name, grid, arguments, operations, reads, writes))


def _residual_of(convolution: Convolution) -> tuple[str, float]:
    """The input of a convolution's residual and its argument; without one its own input (not read) and zero."""
    if isinstance(convolution.addend, Residual):
        return convolution.addend.input, packing.residual_factor(convolution.addend.multiplier)
    return convolution.output, 0.0


def _tiles(activation: Activation, tile: int, factor: int = 1) -> Amount:
    """At least as many tiles of ``tile`` pixels as a batch has, times ``factor``."""
    return Amount(-(-activation.height * activation.width // tile) * factor)


def quantize(site: Site, source: Place, target: str) -> Made:
    """The engine's float32 input -> the network's int8 input."""
    a = site.activation(target)
    arguments = (source, Place("buffer", target), Amount(a.height * a.width * a.channels // 4), Float(a.scale))
    launch = (Grid(per_multiprocessor=8), arguments, ("quantize",), (source.name,), (target,))
    return _made("quantize.cu", {}, 256, 0, launch)


def stem(site: Site, convolution: Convolution, output: str, image: Place, operations: tuple[str, ...]) -> Made:
    """7x7/2 convolution and max-pool, from int8 [N, C, H, W] at ``image``."""
    consumers, rows, pitch, staging = 3, 16, 17 * 128, 56 * 80
    weights = site.weights.add(convolution.name, packing.stem_matrix(convolution.weights))
    constants = site.weights.add(f"{convolution.name}:constants", packing.constants_in_order(convolution))
    arguments = (
        image,
        Place("weights", offset=weights),
        Place("weights", offset=constants),
        Place("buffer", output),
        Amount(1),
    )
    launch = (Grid(most=Amount(-(-56 // consumers))), arguments, operations, (image.name,), (output,))
    shared = 64 * 256 + consumers * (rows * pitch + 2 * staging + 2 * rows * 8)
    return _made("stem.cu", {"ROWS": rows}, 128 * (1 + consumers), shared, launch)


def bottleneck(site: Site, reduce: Convolution, middle: Convolution, expand: Convolution) -> Made:
    """A whole block at 56x56, with its residual or its projection."""
    channels = site.activation(reduce.input).channels
    projection = isinstance(expand.addend, Projection)
    warpgroups, stages, chunk = 4, 9 if projection else 5, 64 if projection else CHUNK
    factor = 0.0 if projection else _residual_of(expand)[1]
    expand_map = site.matrix(expand, (64, 256), k_from_registers=True)
    reduce_map, reduce_constants = site.rows_of_channels(reduce, (chunk, 64))
    arguments = (
        site.images(reduce.input, chunk, 10, 10),
        reduce_map,
        site.matrix(middle, (64, 64)),
        expand_map,
        site.matrix(expand.addend, (64, 256)) if isinstance(expand.addend, Projection) else expand_map,
        Amount(1),
        Place("buffer", expand.output),
        reduce_constants,
        site.constants(middle),
        site.constants(expand),
        site.projection_constants(expand),
        Float(factor),
    )
    weight_bytes = 64 * channels + 9 * 64 * 64 + 256 * 64 * (2 if projection else 1)
    stage_bytes = channels // chunk * -(-100 * chunk // 1024) * 1024
    shared = weight_bytes + stages * stage_bytes + (1024 if projection else 0) + warpgroups * 4 * 13 * 128 + 1024
    launch = (
        Grid(most=Amount(49)),
        arguments,
        (reduce.name, middle.name, expand.name),
        (reduce.input,),
        (expand.output,),
    )
    constants = {"INPUT_CHANNELS": channels, "WARPGROUPS": warpgroups, "STAGES": stages}
    return _made("bottleneck.cu", constants, warpgroups * 128, shared + 8 * (1 + stages) + 4 * stages, launch)


def resident(
    site: Site, convolution: Convolution, block: int, columns: int, warpgroups: int, stages: int, residual_stages: int
) -> Made:
    """A 1x1 convolution with ``block`` output channels resident in each block, ``columns`` in one pass."""
    source, target = site.activation(convolution.input), site.activation(convolution.output)
    chunks, blocks_n = source.channels // CHUNK, target.channels // block
    added, factor = _residual_of(convolution)
    box = (CHUNK, min(block, 256))
    weights = site.matrix(convolution, box)
    side = _Projected(site.rows(convolution.input, TILE), weights)
    if isinstance(convolution.addend, Projection):
        side = _projected(site, convolution.addend, TILE, box)
    arguments = (
        site.rows(convolution.input, TILE),
        weights,
        site.rows(added, TILE),
        side.input,
        side.weights,
        site.pixels(convolution.output),
        Amount(0, target.width),
        Amount(0, target.height),
        Amount(0, side.stride),
        Place("buffer", convolution.output),
        site.constants(convolution),
        site.projection_constants(convolution),
        Float(factor),
    )
    shared = resident_shared_bytes(chunks + side.chunks, block, warpgroups, stages + residual_stages, side.chunks > 0)
    reads = (convolution.input, *((added,) if residual_stages else ()), *side.reads)
    grid = Grid(multiple_of=blocks_n, most=_tiles(target, TILE, blocks_n))
    constants = {
        "CHANNELS": target.channels,
        "N_BLOCK": block,
        "N_PASS": columns,
        "K_CHUNKS": chunks,
        "PROJECTION_CHUNKS": side.chunks,
        "WARPGROUPS": warpgroups,
        "STAGES": stages,
        "RESIDUAL_STAGES": residual_stages,
    }
    launch = (grid, arguments, (convolution.name,), reads, (convolution.output,))
    return _made("resident.cu", constants, warpgroups * 128, shared, launch)


def resident_shared_bytes(chunks: int, block: int, warpgroups: int, stages: int, projection: bool) -> int:
    """Shared memory of the kernel with resident weights: weights, rings, constants, barriers."""
    rings = warpgroups * stages
    return chunks * block * CHUNK + rings * TILE * CHUNK + block * (16 if projection else 8) + 8 * (1 + rings)


@dataclass(frozen=True, slots=True)
class _Projected:
    """The second input of a convolution with a projection, as arguments; without one, something that is not read."""

    input: Argument
    weights: TiledMap
    chunks: int = 0
    stride: int = 1
    reads: tuple[str, ...] = ()


def _projected(site: Site, projection: Projection, pixels: int, box: tuple[int, int]) -> _Projected:
    return _Projected(
        site.window(projection.input, 1, 0, projection.stride, pixels),
        site.matrix(projection, box),
        site.activation(projection.input).channels // CHUNK,
        projection.stride,
        (projection.input,),
    )


def streamed(site: Site, convolution: Convolution, columns: int, stages: int) -> Made:
    """Any convolution whose channels are multiples of 128, without a residual; ``columns`` output channels a tile."""
    source, target = site.activation(convolution.input), site.activation(convolution.output)
    kernel, stride, padding = convolution.weights.shape[1], convolution.stride, convolution.padding
    windowed = kernel > 1 or stride > 1
    main = (
        site.window(convolution.input, kernel, padding, stride, 128) if windowed else site.rows(convolution.input, 128)
    )
    weights = site.matrix(convolution, (CHUNK, columns // 2))
    box = (CHUNK, columns // 2)
    side = _Projected(main, weights)
    if isinstance(convolution.addend, Projection):
        side = _projected(site, convolution.addend, 128, box)
    numbers = (
        target.height, target.width, source.channels, stride, padding, kernel, target.channels,
        kernel * kernel * source.channels // CHUNK, side.chunks, side.stride, 0,
    )  # fmt: skip
    arguments = (
        main,
        weights,
        side.input,
        side.weights,
        site.pixels(convolution.output),
        *(Amount(0, number) for number in numbers),
        Place("buffer", convolution.output),
        site.constants(convolution),
        site.projection_constants(convolution),
    )
    constants = {
        "N_TILE": columns, "STAGES": stages, "WINDOW": int(windowed), "PROJECTION": int(side.chunks > 0), "LOGITS": 0
    }  # fmt: skip
    grid = Grid(multiple_of=2, most=_tiles(target, 256, 2 * target.channels // columns))
    launch = (grid, arguments, (convolution.name,), (convolution.input, *side.reads), (convolution.output,))
    return _made("streamed.cu", constants, 384, stages * (128 + columns) * 128 + 16 * stages, launch, cluster=2)


def halo(site: Site, convolution: Convolution) -> Made:
    """A 3x3 convolution of 128 channels with all its weights resident."""
    a = site.activation(convolution.input)
    warpgroups, stages = 2, 2
    arguments = (
        site.images(convolution.input, CHUNK, a.width + 1, 4),
        site.matrix(convolution, (CHUNK, 128)),
        Amount(1),
        Amount(0, a.height),
        Place("buffer", convolution.output),
        site.constants(convolution),
    )
    shared = 9 * 128 * 128 + warpgroups * stages * 16384 + 1024 + 8 * (1 + warpgroups * stages)
    launch = (
        Grid(most=Amount(a.height // 2)),
        arguments,
        (convolution.name,),
        (convolution.input,),
        (convolution.output,),
    )
    constants = {"WARPGROUPS": warpgroups, "STAGES": stages, "WIDTH": a.width}
    return _made("halo.cu", constants, warpgroups * 128, shared, launch)


def expand_reduce(site: Site, expand: Convolution, reduce: Convolution) -> Made:
    """128 -> 512 with a residual, and the next block's 512 -> 128."""
    warpgroups, stages, residual_stages = 2, 1, 4
    added, factor = _residual_of(expand)
    arguments = (
        site.rows(expand.input, TILE),
        site.matrix(expand, (CHUNK, 256)),
        site.matrix(reduce, (CHUNK, 128), k_from_registers=True),
        site.rows(added, TILE),
        site.pixels(expand.output),
        Place("buffer", expand.output),
        Place("buffer", reduce.output),
        site.constants(expand),
        site.constants(reduce),
        Float(factor),
    )
    rings = warpgroups * (stages + residual_stages)
    shared = 2 * 128 * 512 + rings * TILE * CHUNK + (512 + 128) * 8 + 8 * (1 + rings)
    operations, writes = (expand.name, reduce.name), (expand.output, reduce.output)
    grid = Grid(most=_tiles(site.activation(expand.output), TILE))
    launch = (grid, arguments, operations, (expand.input, added), writes)
    constants = {"WARPGROUPS": warpgroups, "STAGES": stages, "RESIDUAL_STAGES": residual_stages}
    return _made("expand_reduce.cu", constants, warpgroups * 128, shared, launch)


def average(site: Site, pool: AveragePool) -> Made:
    """The mean over an image."""
    a = site.activation(pool.input)
    units = a.channels // 16
    arguments = (Place("buffer", pool.input), Place("buffer", pool.output), Amount(0, units), Float(pool.multiplier))
    launch = (Grid(Amount(-(-units // 128))), arguments, (pool.name,), (pool.input,), (pool.output,))
    return _made("pool.cu", {"PIXELS": a.height * a.width}, 128, 0, launch)


def classifier(site: Site, operation: Classifier) -> Made:
    """The last matrix product, float32 logits [images, classes]; classes are padded to whole tiles and not stored."""
    columns, stages = 128, 6
    classes, channels = operation.weights.shape
    weights = packing.matrix(packing.padded_rows(operation.weights, columns))
    bias = packing.padded_rows(operation.bias, columns)
    table = packing.constants(packing.padded_rows(operation.multiplier, columns), bias)
    weights_map = _matrix_map(site.weights.add(operation.name, weights), weights.shape, (CHUNK, columns // 2))
    constants_at = Place("weights", offset=site.weights.add(f"{operation.name}:constants", table))
    source = site.rows(operation.input, 128)
    numbers = (1, 1, channels, 1, 0, 1, len(weights), channels // CHUNK, 0, 1, classes)
    arguments: tuple[Argument, ...] = (
        source, weights_map, source, weights_map, Amount(1), *(Amount(0, number) for number in numbers),
        Place("output", "logits"), constants_at, constants_at,
    )  # fmt: skip
    constants = {"N_TILE": columns, "STAGES": stages, "WINDOW": 0, "PROJECTION": 0, "LOGITS": 1}
    grid = Grid(multiple_of=2, most=Amount(2 * len(weights) // columns))
    launch = (grid, arguments, (operation.name,), (operation.input,), ("logits",))
    return _made("streamed.cu", constants, 384, stages * (128 + columns) * 128 + 16 * stages, launch, cluster=2)


def largest(classes: int) -> Made:
    """The class of the largest logit, int32 [images]."""
    arguments = (Place("output", "logits"), Place("output", "class"), Amount(0, classes))
    launch = (Grid(Amount(1)), arguments, ("arg max",), ("logits",), ("class",))
    return _made("largest.cu", {}, 32, 0, launch)
