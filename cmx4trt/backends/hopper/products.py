"""Convolutions and the last matrix product as matrix products: weights resident, streamed, or split among blocks."""

from __future__ import annotations

from dataclasses import dataclass

from cmx4trt.backends.hopper.network import Classifier, Convolution, Projection, Residual
from cmx4trt.backends.hopper.plan import Amount, Argument, Float, Grid, Place, TiledMap
from cmx4trt.backends.hopper.site import CHUNK, TILE, LaunchParts, Made, Site, made, residual_of, tiles_of


def resident(
    site: Site, convolution: Convolution, block: int, columns: int, warpgroups: int, stages: int, residual_stages: int
) -> Made:
    """A 1x1 convolution with ``block`` output channels resident in each block, ``columns`` in one pass."""
    source, target = site.activation(convolution.input), site.activation(convolution.output)
    chunks, blocks_n = source.channels // CHUNK, target.channels // block
    added, factor = residual_of(convolution)
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
    grid = Grid(multiple_of=blocks_n, most=tiles_of(target, TILE, blocks_n))
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
    return made("resident.cu", constants, warpgroups * 128, shared, launch)


def resident_shared_bytes(chunks: int, block: int, warpgroups: int, stages: int, projection: bool) -> int:
    """Shared memory of the kernel with resident weights: weights, rings, constants, barriers."""
    rings = warpgroups * stages
    return chunks * block * CHUNK + rings * TILE * CHUNK + block * (16 if projection else 8) + 8 * (1 + rings)


def streamed(site: Site, convolution: Convolution, columns: int, stages: int) -> Made:
    """Any convolution whose channels are multiples of 128, without a residual; ``columns`` output channels per tile."""
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
    grid = Grid(multiple_of=2, most=tiles_of(target, 256, 2 * target.channels // columns))
    launch = (grid, arguments, (convolution.name,), (convolution.input, *side.reads), (convolution.output,))
    return made("streamed.cu", constants, 384, stages * (128 + columns) * 128 + 16 * stages, launch, cluster=2)


def classifier(site: Site, operation: Classifier, logits: Place) -> Made:
    """The last matrix product, float32 logits [images, classes]; classes are padded to whole tiles and not stored."""
    columns, stages = 128, 6
    classes, channels = operation.weights.shape
    outputs = -(-classes // columns) * columns
    weights_map, constants_at = site.classifier(operation, (CHUNK, columns // 2))
    source = site.rows(operation.input, 128)
    numbers = (1, 1, channels, 1, 0, 1, outputs, channels // CHUNK, 0, 1, classes)
    arguments: tuple[Argument, ...] = (
        source, weights_map, source, weights_map, Amount(1), *(Amount(0, number) for number in numbers),
        logits, constants_at, constants_at,
    )  # fmt: skip
    constants = {"N_TILE": columns, "STAGES": stages, "WINDOW": 0, "PROJECTION": 0, "LOGITS": 1}
    grid = Grid(multiple_of=2, most=Amount(2 * outputs // columns))
    launch = (grid, arguments, (operation.name,), (operation.input,), (logits.name,))
    return made("streamed.cu", constants, 384, stages * (128 + columns) * 128 + 16 * stages, launch, cluster=2)


def split(site: Site, convolution: Convolution, blocks: int) -> Made:
    """Any convolution whose channels are multiples of 128, for small batches: ``blocks`` blocks share each sum."""
    source, target = site.activation(convolution.input), site.activation(convolution.output)
    kernel, stride, padding = convolution.weights.shape[1], convolution.stride, convolution.padding
    windowed = kernel > 1 or stride > 1
    main = (
        site.window(convolution.input, kernel, padding, stride, TILE)
        if windowed
        else site.rows(convolution.input, TILE)
    )
    weights = site.matrix(convolution, (CHUNK, TILE))
    side = _Projected(main, weights)
    if isinstance(convolution.addend, Projection):
        side = _projected(site, convolution.addend, TILE, (CHUNK, TILE))
    added, factor = residual_of(convolution)
    residual = isinstance(convolution.addend, Residual)
    numbers = (target.height, target.width, source.channels, stride, padding, kernel, target.channels, side.stride, 0)
    arguments = (
        main,
        weights,
        side.input,
        side.weights,
        site.pixels(convolution.output),
        *(Amount(0, number) for number in numbers),
        Place("buffer", added),
        Place("buffer", convolution.output),
        site.constants(convolution),
        site.projection_constants(convolution),
        Float(factor),
    )
    reads = (convolution.input, *side.reads, *((added,) if residual else ()))
    tiles = tiles_of(target, TILE, target.channels // TILE * blocks)
    launch = (Grid(tiles), arguments, (convolution.name,), reads, (convolution.output,))
    chunks = kernel * kernel * source.channels // CHUNK
    return _made_split(blocks, chunks, side.chunks, launch, {"WINDOW": windowed, "RESIDUAL": residual, "LOGITS": False})


def split_classifier(site: Site, operation: Classifier, logits: Place, blocks: int) -> Made:
    """The last matrix product for small batches: ``blocks`` blocks share each sum."""
    weights, table = site.classifier(operation, (CHUNK, TILE))
    channels, columns = operation.weights.shape[1], -(-len(operation.weights) // 128) * 128
    source = site.rows(operation.input, TILE)
    numbers = (1, 1, channels, 1, 0, 1, columns, 1, len(operation.weights))
    arguments: tuple[Argument, ...] = (
        source, weights, source, weights, Amount(1), *(Amount(0, number) for number in numbers), logits, logits,
        table, table, Float(0.0),
    )  # fmt: skip
    launch = (Grid(Amount(columns // TILE * blocks)), arguments, (operation.name,), (operation.input,), (logits.name,))
    return _made_split(blocks, channels // CHUNK, 0, launch, {"WINDOW": False, "RESIDUAL": False, "LOGITS": True})


def _made_split(blocks: int, chunks: int, side_chunks: int, launch: LaunchParts, kinds: dict[str, bool]) -> Made:
    constants = {"SPLIT": blocks, "CHUNKS": chunks, "PROJECTION_CHUNKS": side_chunks}
    constants.update((name, int(value)) for name, value in kinds.items())
    shared = split_shared_bytes(chunks + side_chunks, blocks, side_chunks > 0)
    return made("split.cu", constants, 128, shared, launch, cluster=blocks)


def split_shared_bytes(chunks: int, blocks: int, projection: bool) -> int:
    """Shared memory of the kernel for small batches: stages, partial sums, barriers."""
    each = -(-chunks // blocks)
    return each * 2 * TILE * CHUNK + TILE * TILE * 4 * (2 if projection else 1) + 8 * each


@dataclass(frozen=True, slots=True)
class _Projected:
    """The second input of a convolution with a projection, as arguments; without one, dummies that are not read."""

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
