"""One function per kernel family: operations of a network -> the compiled instance and the launch that compute them."""

from __future__ import annotations

from cmx4trt.backends.hopper import packing
from cmx4trt.backends.hopper.network import AveragePool, Convolution, MaxPool, Projection
from cmx4trt.backends.hopper.plan import Amount, Float, Grid, Place
from cmx4trt.backends.hopper.site import CHUNK, TILE, Made, Site, made, residual_of, tiles_of


def quantize(site: Site, source: Place, target: Place, half: bool) -> Made:
    """The engine's float32 or (``half``) float16 input -> the network's int8 input."""
    a = site.network.input
    arguments = (source, target, Amount(a.height * a.width * a.channels // 4), Float(a.scale))
    launch = (Grid(per_multiprocessor=8), arguments, ("quantize",), (source.name,), (target.name,))
    return made("quantize.cu", {"HALF": int(half)}, 256, 0, launch)


def stem(site: Site, convolution: Convolution, pool: MaxPool, image: Place) -> Made:
    """7x7/2 convolution and max-pool, from int8 [N, C, H, W] at ``image``."""
    consumers, rows, pitch, staging = 2, 16, 17 * 128, 56 * 80
    weights = site.weights.add(convolution.name, packing.stem_matrix(convolution.weights))
    constants = site.weights.add(f"{convolution.name}:constants", packing.constants_in_order(convolution))
    arguments = (
        image,
        Place("weights", offset=weights),
        Place("weights", offset=constants),
        Place("buffer", pool.output),
        Amount(1),
    )
    operations = (convolution.name, pool.name)
    launch = (Grid(most=Amount(-(-56 // consumers))), arguments, operations, (image.name,), (pool.output,))
    shared = 64 * 128 + consumers * (rows * pitch + 2 * staging + 2 * rows * 8)
    return made("stem.cu", {"ROWS": rows, "POOL_PADDING": pool.padding}, 128 * (1 + consumers), shared, launch)


def bottleneck(
    site: Site, reduce: Convolution, middle: Convolution, expand: Convolution, following: Convolution | None = None
) -> Made:
    """A whole block at 56x56, with its residual or its projection, and the ``following`` reduction to 128 channels."""
    channels = site.activation(reduce.input).channels
    projection = isinstance(expand.addend, Projection)
    chunk = 64 if projection else CHUNK
    warpgroups, stages = (4, 9) if projection else (3, 4) if following else (4, 5)
    expand_map = site.matrix(expand, (64, 256), k_from_registers=True)
    reduce_map, reduce_constants = site.rows_of_channels(reduce, (chunk, 64))
    next_map = site.matrix(following, (CHUNK, 128), k_from_registers=True) if following else expand_map
    arguments = (
        site.images(reduce.input, chunk, 10, 10),
        reduce_map,
        site.matrix(middle, (64, 64)),
        expand_map,
        site.matrix(expand.addend, (64, 256)) if isinstance(expand.addend, Projection) else expand_map,
        next_map,
        Amount(1),
        Place("buffer", expand.output),
        Place("buffer", following.output if following else expand.output),
        reduce_constants,
        site.constants(middle),
        site.constants(expand),
        site.projection_constants(expand),
        site.constants(following or expand),
        Float(0.0 if projection else residual_of(expand)[1]),
    )
    weight_bytes = 64 * channels + 9 * 64 * 64 + 256 * 64 * (2 if projection else 1) + (128 * 256 if following else 0)
    stage_bytes = channels // chunk * -(-100 * chunk // 1024) * 1024
    shared = weight_bytes + stages * stage_bytes + (1024 if projection else 0) + warpgroups * 4 * 13 * 128 + 1024
    computed = [one for one in (reduce, middle, expand, following) if one]
    writes = (expand.output, *((following.output,) if following else ()))
    launch = (Grid(most=Amount(49)), arguments, tuple(one.name for one in computed), (reduce.input,), writes)
    constants = {
        "INPUT_CHANNELS": channels,
        "WARPGROUPS": warpgroups,
        "STAGES": stages,
        "NEXT": int(following is not None),
    }
    return made("bottleneck.cu", constants, warpgroups * 128, shared + 8 * (1 + stages) + 4 * stages, launch)


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
    return made("halo.cu", constants, warpgroups * 128, shared, launch)


def expand_reduce(site: Site, expand: Convolution, reduce: Convolution) -> Made:
    """128 -> 512 with a residual, and the next block's 512 -> 128."""
    warpgroups, stages, residual_stages = 2, 1, 4
    added, factor = residual_of(expand)
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
    grid = Grid(most=tiles_of(site.activation(expand.output), TILE))
    launch = (grid, arguments, operations, (expand.input, added), writes)
    constants = {"WARPGROUPS": warpgroups, "STAGES": stages, "RESIDUAL_STAGES": residual_stages}
    return made("expand_reduce.cu", constants, warpgroups * 128, shared, launch)


def average(site: Site, pool: AveragePool) -> Made:
    """The mean over an image."""
    a = site.activation(pool.input)
    units = a.channels // 16
    arguments = (Place("buffer", pool.input), Place("buffer", pool.output), Amount(0, units), Float(pool.multiplier))
    launch = (Grid(Amount(-(-units // 128))), arguments, (pool.name,), (pool.input,), (pool.output,))
    return made("pool.cu", {"PIXELS": a.height * a.width}, 128, 0, launch)


def largest(classes: int, logits: Place) -> Made:
    """The class of the largest logit, int32 [images]."""
    arguments = (logits, Place("output", "class"), Amount(0, classes))
    launch = (Grid(Amount(1)), arguments, ("arg max",), (logits.name,), ("class",))
    return made("largest.cu", {}, 32, 0, launch)


def narrow(classes: int, logits: Place) -> Made:
    """The engine's float16 logits."""
    arguments = (logits, Place("output", "logits"), Amount(classes))
    launch = (Grid(per_multiprocessor=8), arguments, ("round the logits",), (logits.name,), ("logits",))
    return made("narrow.cu", {}, 256, 0, launch)
