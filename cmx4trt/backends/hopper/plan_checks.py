"""Checks that the parts of a plan match each other, the weights and the CUDA driver's limits, and that launches have all they
need.

Limits of tensor maps: CUDA driver API, cuTensorMapEncodeTiled and cuTensorMapEncodeIm2col.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cmx4trt.backends.hopper.arguments import tiles_of, windows_of
from cmx4trt.backends.hopper.plan import Amount, Float, Place, TiledMap, WindowMap

if TYPE_CHECKING:
    from cmx4trt.backends.hopper.plan import Buffer, Launch, Plan, Program
    from cmx4trt.devices.base import Tiles, Windows

_MOST_BLOCKS = _INT32 = (1 << 31) - 1
_MOST_EXTENT, _MOST_STRIDE = 1 << 32, 1 << 40
_STEP = 16
"""Required alignment in bytes of addresses, strides and the innermost box of a tensor map."""
_PARAMETER_BYTES = 4096
"""Maximum size of a kernel's parameters in bytes (CUDA C++ Programming Guide, function parameters)."""
_ITEMSIZES = {"float32": 4, "float16": 2, "int32": 4, "int8": 1, "uint8": 1}


@dataclass(frozen=True, slots=True)
class Room:
    """The range of bytes that places with one space and name may access, relative to its address."""

    first: int
    end: int


def check_plan(plan: Plan, weights_bytes: int) -> None:
    """Reject a plan with invalid references or out-of-bounds accesses. Raises ValueError with one sentence."""
    _check_unique("kernel", (kernel.name for kernel in plan.kernels))
    names = [buffer.name for buffer in plan.buffers]
    _check_unique("buffer, input or output", [*names, *plan.inputs, *plan.outputs])
    _check_buffers(plan)
    _check_ranges(plan)
    rooms = _rooms(plan, weights_bytes)
    known = {name for _, name in rooms if name}
    clusters = {kernel.name: kernel.cluster for kernel in plan.kernels}
    for number, program in enumerate(plan.programs):
        for index, launch in enumerate(program.launches):
            with _at(f"plan.programs[{number}].launches[{index}]"):
                _check_launch(launch, program, clusters, known, rooms)


def _check_unique(what: str, names: Iterable[str]) -> None:
    name, count = max(Counter(names).items(), key=lambda item: item[1], default=("", 1))
    if count > 1:
        raise ValueError(f"plan has the {what} {name!r} {count} times")


def _check_buffers(plan: Plan) -> None:
    """Buffers are inside the arena; the zeros around them are not shared."""
    guards: list[tuple[int, int, str]] = []
    for buffer in plan.buffers:
        end = buffer.offset + buffer.bytes_per_image * plan.max_batch
        if buffer.offset < buffer.before or end + buffer.after > plan.arena_bytes or buffer.offset % _STEP:
            raise ValueError(
                f"plan's buffer {buffer.name!r} takes bytes {buffer.offset - buffer.before} to {end + buffer.after}, "
                f"expected 0 to {plan.arena_bytes}, and a start that is a multiple of {_STEP}"
            )
        guards += [(buffer.offset - buffer.before, buffer.offset, buffer.name), (end, end + buffer.after, buffer.name)]
    for first, end, name in guards:
        if (other := _written_inside(plan, first, end)) is not None:
            raise ValueError(f"plan's buffer {other.name!r} overlaps the zeros around {name!r}")


def _written_inside(plan: Plan, first: int, end: int) -> Buffer | None:
    """A buffer whose content is in these bytes."""
    for buffer in plan.buffers if first < end else ():
        if buffer.offset < end and first < buffer.offset + buffer.bytes_per_image * plan.max_batch:
            return buffer
    return None


def _check_ranges(plan: Plan) -> None:
    """The programs cover every batch size exactly once."""
    expected = 1
    for program in plan.programs:
        if program.first != expected or program.last < program.first:
            raise ValueError(
                f"plan has a program for batches {program.first} to {program.last}, expected {expected} to …"
            )
        expected = program.last + 1
    if expected != plan.max_batch + 1:
        raise ValueError(f"plan has programs for batches up to {expected - 1}, expected {plan.max_batch}")


def _rooms(plan: Plan, weights_bytes: int) -> dict[tuple[str, str], Room]:
    rooms = {("weights", ""): Room(0, weights_bytes)}
    for buffer in plan.buffers:
        end = buffer.bytes_per_image * plan.max_batch + buffer.after
        rooms["buffer", buffer.name] = Room(-buffer.before, end)
    for space, tensors in (("input", plan.inputs), ("output", plan.outputs)):
        for name, facts in tensors.items():
            rooms[space, name] = Room(0, plan.max_batch * tensor_bytes(facts))
    return rooms


def tensor_bytes(facts: Mapping[str, Any]) -> int:
    """Size in bytes of one image of an input or output."""
    size: int = _ITEMSIZES[facts["dtype"]] * math.prod(facts["shape"])
    return size


@contextmanager
def _at(path: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error


def _check_launch(
    launch: Launch,
    program: Program,
    clusters: Mapping[str, int],
    known: Container[str],
    rooms: Mapping[tuple[str, str], Room],
) -> None:
    if launch.kernel not in clusters:
        raise ValueError(f"launches the kernel {launch.kernel!r}, which does not exist")
    if unknown := next((name for name in (*launch.reads, *launch.writes) if name not in known), None):
        raise ValueError(f"reads or writes {unknown!r}, which does not exist")
    size = sum(128 if isinstance(argument, (TiledMap, WindowMap)) else 8 for argument in launch.arguments)
    if size > _PARAMETER_BYTES:
        raise ValueError(f"has {size} bytes of arguments, expected up to {_PARAMETER_BYTES}")
    # Everything is linear in the batch: what holds for the first and last batch size holds in between.
    for batch in (program.first, program.last):
        _check_grid(launch, clusters[launch.kernel], batch)
        for argument in launch.arguments:
            _check_argument(argument, batch, rooms)


def _check_grid(launch: Launch, cluster: int, batch: int) -> None:
    grid = launch.grid
    exact = [amount.at(batch) for amount in (grid.blocks, grid.most) if amount is not None]
    if any(not 1 <= blocks <= _MOST_BLOCKS for blocks in exact):
        raise ValueError(f"has {min(exact)} to {max(exact)} blocks at batch {batch}, expected 1 to {_MOST_BLOCKS}")
    divisible = grid.multiple_of if grid.blocks is None else math.gcd(grid.blocks.per_image, grid.blocks.constant)
    if divisible % cluster:
        raise ValueError(
            f"has a grid of multiples of {divisible} blocks, expected multiples of its cluster of {cluster}"
        )


def _check_argument(argument: object, batch: int, rooms: Mapping[tuple[str, str], Room]) -> None:
    match argument:
        case Amount():
            if not -_INT32 - 1 <= argument.at(batch) <= _INT32:
                raise ValueError(f"has the argument {argument.at(batch)} at batch {batch}, expected an int32")
        case Float():
            if abs(argument.value) > 3.4028234663852886e38:
                raise ValueError(f"has the argument {argument.value}, expected a float32")
        case Place():
            _check_reach(argument, 1, rooms)
        case TiledMap():
            _check_tiles(argument, tiles_of(argument, batch, 0), rooms)
        case WindowMap():
            _check_windows(argument, windows_of(argument, batch, 0), rooms)


def _check_reach(place: Place, size: int, rooms: Mapping[tuple[str, str], Room]) -> None:
    """Whether ``size`` bytes at ``place`` are within the object it names."""
    room = rooms.get((place.space, place.name))
    if room is None:
        raise ValueError(f"uses the {place.space} {place.name!r}, which does not exist")
    if place.offset < room.first or place.offset + size > room.end:
        raise ValueError(
            f"accesses bytes {place.offset} to {place.offset + size} of the {place.space} {place.name!r}, "
            f"expected {room.first} to {room.end}"
        )


def _check_tiles(recipe: TiledMap, tiles: Tiles, rooms: Mapping[tuple[str, str], Room]) -> None:
    rank = len(tiles.extents)
    if len(tiles.box) != rank or len(tiles.strides) != rank - 1:
        raise ValueError(
            f"has a tensor map with {rank} extents, {len(tiles.strides)} strides and a box of {len(tiles.box)}, "
            f"expected {rank - 1} strides and a box of {rank}"
        )
    if any(not 1 <= extent <= _MOST_EXTENT for extent in tiles.extents):
        raise ValueError(f"has a tensor map with extents {list(tiles.extents)}, expected 1 to {_MOST_EXTENT}")
    if (
        recipe.place.offset % _STEP
        or any(s % _STEP or s >= _MOST_STRIDE for s in tiles.strides)
        or tiles.box[0] % _STEP
    ):
        raise ValueError(
            f"has a tensor map at offset {recipe.place.offset} with strides {list(tiles.strides)} and box {list(tiles.box)}, "
            f"expected multiples of {_STEP} bytes"
        )
    _check_swizzle(tiles.box[0], tiles.swizzle)
    outer = sum((extent - 1) * stride for extent, stride in zip(tiles.extents[1:], tiles.strides, strict=True))
    _check_reach(recipe.place, outer + tiles.extents[0], rooms)


def _check_windows(recipe: WindowMap, windows: Windows, rooms: Mapping[tuple[str, str], Room]) -> None:
    if not 1 <= windows.extents[3] <= _MOST_EXTENT:
        raise ValueError(f"has a tensor map of {windows.extents[3]} images, expected 1 to {_MOST_EXTENT}")
    if recipe.place.offset % _STEP or recipe.channels % _STEP or recipe.channels_per_pixel % _STEP:
        raise ValueError(
            f"has a tensor map at offset {recipe.place.offset} with {recipe.channels} channels, {recipe.channels_per_pixel} "
            f"a copy, expected multiples of {_STEP} bytes"
        )
    if (
        min(*windows.lower_corner, *windows.upper_corner) < -128
        or max(*windows.lower_corner, *windows.upper_corner) > 127
    ):
        raise ValueError(
            f"has a window of {recipe.kernel} pixels with padding {recipe.padding}, expected corners of -128 to 127"
        )
    _check_swizzle(recipe.channels_per_pixel, recipe.swizzle)
    _check_reach(recipe.place, math.prod(windows.extents), rooms)


def _check_swizzle(inner: int, swizzle: int) -> None:
    if swizzle and inner > swizzle:
        raise ValueError(
            f"has a tensor map with an inner box of {inner} bytes, expected up to its swizzle of {swizzle}"
        )
