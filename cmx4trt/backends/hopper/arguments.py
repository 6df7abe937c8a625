"""A plan's launches with all numbers resolved: amounts for one batch size, places as addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cmx4trt.backends.hopper.plan import Amount, Argument, Float, Grid, Place, Plan, Program, TiledMap, WindowMap
from cmx4trt.devices.base import LaunchConfiguration, Pointer, Tiles, Value, Windows

if TYPE_CHECKING:
    from cmx4trt.devices.base import ComputeDevice


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of an engine's parts on the device; inputs and outputs by name."""

    arena: int
    weights: int
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


class Resolver:
    """Resolves launches of one plan on one device."""

    def __init__(self, plan: Plan, device: ComputeDevice, functions: Mapping[str, int]) -> None:
        """``functions`` are the handles of the loaded kernels by name."""
        self._device = device
        self.functions = functions
        self._kernels = {kernel.name: kernel for kernel in plan.kernels}
        self._offsets = {buffer.name: buffer.offset for buffer in plan.buffers}

    def launches(self, program: Program, batch: int, addresses: Addresses) -> tuple[LaunchConfiguration, ...]:
        """The launches of ``program`` for one batch size. Must be called while the device is active."""
        configurations = []
        for index, launch in enumerate(program.launches):
            kernel = self._kernels[launch.kernel]
            values = tuple(self._value(argument, batch, addresses) for argument in launch.arguments)
            configurations.append(
                LaunchConfiguration(
                    function=self.functions[kernel.name],
                    blocks=blocks_of(launch.grid, batch, self._device.facts.multiprocessors),
                    threads=kernel.threads,
                    shared_bytes=kernel.shared_bytes,
                    values=values,
                    label=" + ".join(launch.operations),
                    early=index > 0,  # all kernels begin with hopper.cuh's wait_for_predecessor
                )
            )
        return tuple(configurations)

    def address(self, place: Place, addresses: Addresses) -> int:
        """The address of a place."""
        if place.space == "buffer":
            return addresses.arena + self._offsets[place.name] + place.offset
        if place.space == "weights":
            return addresses.weights + place.offset
        return (addresses.inputs if place.space == "input" else addresses.outputs)[place.name] + place.offset

    def _value(self, argument: Argument, batch: int, addresses: Addresses) -> Value:
        match argument:
            case Amount():
                return argument.at(batch)
            case Float():
                return float(argument.value)
            case Place():
                return Pointer(self.address(argument, addresses))
            case TiledMap():
                return self._device.encode_tiles(tiles_of(argument, batch, self.address(argument.place, addresses)))
            case WindowMap():
                return self._device.encode_windows(windows_of(argument, batch, self.address(argument.place, addresses)))


def tiles_of(recipe: TiledMap, batch: int, address: int) -> Tiles:
    """A tiled map's recipe with numbers resolved."""
    extents = tuple(extent.at(batch) for extent in recipe.extents)
    return Tiles(address, extents, recipe.strides, recipe.box, recipe.swizzle)


def windows_of(recipe: WindowMap, batch: int, address: int) -> Windows:
    """An im2col map's recipe with numbers resolved."""
    lower, upper = -recipe.padding, recipe.padding - (recipe.kernel - 1)
    return Windows(
        address=address,
        extents=(recipe.channels, recipe.width, recipe.height, recipe.images.at(batch)),
        lower_corner=(lower, lower),
        upper_corner=(upper, upper),
        stride=recipe.stride,
        channels_per_pixel=recipe.channels_per_pixel,
        pixels=recipe.pixels,
        swizzle=recipe.swizzle,
    )


def blocks_of(grid: Grid, batch: int, multiprocessors: int) -> int:
    """The number of blocks of a launch for one batch size on a GPU with this many SMs."""
    if grid.blocks is not None:
        return grid.blocks.at(batch)
    step = grid.multiple_of
    blocks = max(1, grid.per_multiprocessor * multiprocessors // step) * step
    if grid.most is None:
        return blocks
    return min(blocks, -(-grid.most.at(batch) // step) * step)
