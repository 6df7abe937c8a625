"""A small engine of two kernels, and a stand-in of the GPU that executes it."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from cmx4trt.backends.hopper.engine import Engine
from cmx4trt.backends.hopper.gather import KERNEL
from cmx4trt.backends.hopper.plan import (
    Amount,
    Buffer,
    Float,
    Grid,
    Kernel,
    Launch,
    Place,
    Plan,
    Program,
    TiledMap,
    WindowMap,
)
from cmx4trt.devices.base import LaunchConfiguration

DATA = Path(__file__).parents[3] / "data"
CUBIN = b"\x7fELF\x02\x01\x01\x33\x07" + bytes(9) + (190).to_bytes(2, "little") + bytes(44)
"""As much of a cubin's header as is looked at: ELF ABI 7, machine CUDA."""
ROW = 64
"""Bytes of an image of the small engine: [8, 8], int8."""


def load(name: str) -> ModuleType:
    """A module of tests/data."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, DATA / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def plan(max_batch: int = 6) -> Plan:
    """buffer = input + the weights' first byte; sums = float(buffer) * 0.5 summed for each image; best = largest byte."""
    kernels = (
        Kernel("add", "add.cu", {"ADDEND": 1}, threads=128, shared_bytes=2048),
        Kernel("reduce", "reduce.cu", {}, threads=64, shared_bytes=0, cluster=2),
    )
    add = Launch(
        kernel="add",
        grid=Grid(blocks=Amount(1)),
        arguments=(
            TiledMap(Place("input", "data"), (Amount(0, ROW), Amount(1)), (ROW,), (ROW, 1), 64),
            Place("weights", offset=256),
            Place("buffer", "sums"),
            Amount(1),
        ),
        operations=("addition",),
        reads=("data",),
        writes=("sums",),
    )
    reduce = Launch(
        kernel="reduce",
        grid=Grid(per_multiprocessor=2, multiple_of=2, most=Amount(1, 1)),
        arguments=(
            WindowMap(Place("buffer", "sums"), Amount(1), 4, 1, 16, 3, 1, 1, 16, 64, 0),
            Place("output", "sum"),
            Place("output", "best"),
            Float(0.5),
            Amount(1),
        ),
        operations=("sum", "best"),
        reads=("sums",),
        writes=("sum", "best"),
    )
    size = 256 + max_batch * ROW + 128
    return Plan(
        max_batch=max_batch,
        kernels=kernels,
        buffers=(Buffer("sums", ROW, before=256, after=128, offset=256),),
        programs=(Program(1, 2, (add, reduce)), Program(3, max_batch, (add, reduce))),
        arena_bytes=-(-size // 256) * 256,
        inputs={"data": {"dtype": "int8", "shape": [8, 8], "scale": 0.25}},
        outputs={"sum": {"dtype": "float32", "shape": [3]}, "best": {"dtype": "int32", "shape": []}},
    )


def weights() -> bytes:
    return bytes(256) + bytes([3]) + bytes(255)


def engine(max_batch: int = 6, copy_streams: int = 1) -> Engine:
    return Engine(plan(max_batch), {"add": CUBIN, "reduce": CUBIN}, weights(), copy_streams)


def engine_that_gathers(max_batch: int = 40) -> Engine:
    """As engines are built: with the kernel that fetches samples."""
    small = engine(max_batch)
    kernels = (*small.plan.kernels, KERNEL)
    return replace(small, plan=replace(small.plan, kernels=kernels), cubins={**small.cubins, KERNEL.name: CUBIN})


def expected(data: Any) -> tuple[Any, Any]:
    """What the small engine computes."""
    sums = data.reshape(len(data), ROW).view(np.uint8) + np.uint8(3)
    one = sums.sum(axis=1, dtype=np.float32) * np.float32(0.5)
    return np.stack([one, one + 1, one + 2], axis=1), sums.max(axis=1).astype(np.int32)


def _add(gpu: Any, launch: LaunchConfiguration) -> None:
    encoded, addend, target, batch = launch.values
    tiles = gpu.maps[encoded]
    assert tiles.extents == (ROW, batch)
    gpu.view(target, batch * ROW)[:] = gpu.view(tiles.address, batch * ROW) + gpu.view(addend, 1)


def _reduce(gpu: Any, launch: LaunchConfiguration) -> None:
    encoded, sums, best, factor, batch = launch.values
    windows = gpu.maps[encoded]
    assert windows.extents == (16, 1, 4, batch)
    assert (windows.lower_corner, windows.upper_corner) == ((-1, -1), (-1, -1))
    guards = (gpu.view(windows.address - 256, 256), gpu.view(windows.address + batch * ROW, 128))
    assert batch < gpu.largest or not any(guard.any() for guard in guards), "the bytes around a buffer are zero"
    values = gpu.view(windows.address, batch * ROW).reshape(batch, ROW)
    one = values.sum(axis=1, dtype=np.float32) * np.float32(factor)
    gpu.view(sums, batch * 12).view(np.float32).reshape(batch, 3)[:] = np.stack([one, one + 1, one + 2], axis=1)
    gpu.view(best, batch * 4).view(np.int32)[:] = values.max(axis=1)


def _gather(gpu: Any, launch: LaunchConfiguration) -> None:
    samples, rows, target, count, units = launch.values
    for image, row in enumerate(gpu.view(rows, 4 * count).view(np.int32)):
        gpu.view(target + image * units * 16, units * 16)[:] = gpu.view(samples + int(row) * units * 16, units * 16)


@pytest.fixture
def gpu() -> Any:
    """A stand-in of an H100 with the kernels of the small engine."""
    made = load("stand_in_gpu").StandInGpu({"add": _add, "reduce": _reduce, "gather": _gather})
    made.largest = 6  # batch of the small engine, behind which its buffer ends
    return made


@pytest.fixture
def small() -> ModuleType:
    """The functions above that make the small engine and say what it computes."""
    return sys.modules[__name__]
