"""A plan as JSON and back. Reading is strict, because the text is untrusted (see ``strict_json``, ``plan_checks``)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from cmx4trt.backends.hopper.plan import (
    Amount,
    Argument,
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
from cmx4trt.backends.hopper.strict_json import fields, integer, items, number, text

_MOST = 1 << 40
"""More bytes than any GPU has or any number in a plan needs."""
_COUNT = 512
"""Maximum number of kernels, buffers, launches of a program; ResNet-50 has about 50 of each."""
_SYMBOL = re.compile(r"[A-Za-z_]\w{0,199}", re.ASCII)
_SOURCE = re.compile(r"[A-Za-z_]\w{0,99}\.cu", re.ASCII)
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,1000}")
"""Names of activations and operations come from the model file."""
_SPACE = re.compile("buffer|weights|input|output")
_DTYPE = re.compile("float32|float16|int8|uint8|int32")
_PLACE_NAME = re.compile(_NAME.pattern + "|")
_SWIZZLES = (0, 32, 64, 128)


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """JSON types only, from which ``plan_from_json`` reads an equal plan."""
    return {
        "max_batch": plan.max_batch,
        "arena_bytes": plan.arena_bytes,
        "inputs": {name: dict(facts) for name, facts in plan.inputs.items()},
        "outputs": {name: dict(facts) for name, facts in plan.outputs.items()},
        "buffers": [[b.name, b.offset, b.bytes_per_image, b.before, b.after] for b in plan.buffers],
        "kernels": [
            {
                "name": kernel.name,
                "source": kernel.source,
                "constants": dict(sorted(kernel.constants.items())),
                "threads": kernel.threads,
                "shared_bytes": kernel.shared_bytes,
                "cluster": kernel.cluster,
            }
            for kernel in plan.kernels
        ],
        "programs": [
            {
                "first": program.first,
                "last": program.last,
                "launches": [_launch_to_json(one) for one in program.launches],
            }
            for program in plan.programs
        ],
    }


def plan_from_json(value: Any) -> Plan:
    """The plan in a parsed JSON value; its parts are bounds-checked, but not yet compared with each other. Raises ValueError."""
    with fields(value, "plan") as plan:
        return Plan(
            max_batch=plan.integer("max_batch", 1, 1 << 20),
            kernels=plan.items("kernels", _kernel, 1, _COUNT),
            buffers=plan.items("buffers", _buffer, 0, _COUNT),
            programs=plan.items("programs", _program, 1, 16),
            arena_bytes=plan.integer("arena_bytes", 0, _MOST),
            inputs=plan.mapping("inputs", _NAME, _tensor, 8),
            outputs=plan.mapping("outputs", _NAME, _tensor, 8),
        )


def _launch_to_json(launch: Launch) -> dict[str, Any]:
    grid = launch.grid
    return {
        "kernel": launch.kernel,
        "grid": {
            "blocks": _amount_to_json(grid.blocks),
            "per_multiprocessor": grid.per_multiprocessor,
            "multiple_of": grid.multiple_of,
            "most": _amount_to_json(grid.most),
        },
        "arguments": [_argument_to_json(argument) for argument in launch.arguments],
        "operations": list(launch.operations),
        "reads": list(launch.reads),
        "writes": list(launch.writes),
    }


def _amount_to_json(amount: Amount | None) -> list[int] | None:
    return None if amount is None else [amount.per_image, amount.constant]


def _place_to_json(place: Place) -> list[Any]:
    return [place.space, place.name, place.offset]


def _argument_to_json(argument: Argument) -> dict[str, Any]:
    match argument:
        case Amount():
            return {"amount": _amount_to_json(argument)}
        case Place():
            return {"place": _place_to_json(argument)}
        case Float():
            return {"float": float(argument.value)}
        case TiledMap():
            tiled = {
                "place": _place_to_json(argument.place),
                "extents": [_amount_to_json(extent) for extent in argument.extents],
                "strides": list(argument.strides),
                "box": list(argument.box),
                "swizzle": argument.swizzle,
            }
            return {"tiled": tiled}
        case WindowMap():
            window = {name: getattr(argument, name) for name in _WINDOW_BOUNDS}
            place, images = _place_to_json(argument.place), _amount_to_json(argument.images)
            return {"window": {"place": place, "images": images, **window, "swizzle": argument.swizzle}}


def _tensor(value: Any, path: str) -> dict[str, object]:
    facts: dict[str, object] = {}
    with fields(value, path) as tensor:
        facts["dtype"] = tensor.text("dtype", _DTYPE)
        facts["shape"] = list(tensor.items("shape", lambda size, at: integer(size, at, 1, 1 << 20), 0, 5))
        if tensor.has("scale"):
            facts["scale"] = tensor.number("scale")
    return facts


def _buffer(value: Any, path: str) -> Buffer:
    name, *numbers = items(value, path, lambda item, at: item, 5, 5)
    names = ("offset", "bytes_per_image", "before", "after")
    sizes = [integer(item, f"{path}.{of}", 0, _MOST) for item, of in zip(numbers, names, strict=True)]
    offset, bytes_per_image, before, after = sizes
    return Buffer(text(name, f"{path}.name", _NAME), bytes_per_image, before, after, offset)


def _kernel(value: Any, path: str) -> Kernel:
    with fields(value, path) as kernel:
        return Kernel(
            name=kernel.text("name", _SYMBOL),
            source=kernel.text("source", _SOURCE),
            constants=kernel.mapping("constants", _SYMBOL, lambda v, at: integer(v, at, -(1 << 31), (1 << 31) - 1), 64),
            threads=kernel.integer("threads", 1, 1024),
            shared_bytes=kernel.integer("shared_bytes", 0, 227 * 1024),
            cluster=kernel.integer("cluster", 1, 16),
        )


def _program(value: Any, path: str) -> Program:
    with fields(value, path) as program:
        return Program(
            first=program.integer("first", 1, 1 << 20),
            last=program.integer("last", 1, 1 << 20),
            launches=program.items("launches", _launch, 1, _COUNT),
        )


def _launch(value: Any, path: str) -> Launch:
    with fields(value, path) as launch:
        return Launch(
            kernel=launch.text("kernel", _SYMBOL),
            grid=launch.part("grid", _grid),
            arguments=launch.items("arguments", _argument, 0, 64),
            operations=launch.items("operations", _name, 0, 64),
            reads=launch.items("reads", _name, 0, 64),
            writes=launch.items("writes", _name, 0, 64),
        )


def _name(value: Any, path: str) -> str:
    return text(value, path, _NAME)


def _grid(value: Any, path: str) -> Grid:
    with fields(value, path) as grid:
        return Grid(
            blocks=grid.part("blocks", _amount_or_none),
            per_multiprocessor=grid.integer("per_multiprocessor", 1, 32),
            multiple_of=grid.integer("multiple_of", 1, 128),
            most=grid.part("most", _amount_or_none),
        )


def _amount_or_none(value: Any, path: str) -> Amount | None:
    return None if value is None else _amount(value, path)


def _amount(value: Any, path: str) -> Amount:
    per_image, constant = items(value, path, lambda item, at: integer(item, at, -_MOST, _MOST), 2, 2)
    return Amount(per_image, constant)


def _place(value: Any, path: str) -> Place:
    space, name, offset = items(value, path, lambda item, at: item, 3, 3)
    return Place(
        space=text(space, f"{path}.space", _SPACE),
        name=text(name, f"{path}.name", _PLACE_NAME),
        offset=integer(offset, f"{path}.offset", -_MOST, _MOST),
    )


def _argument(value: Any, path: str) -> Argument:
    kind = next(iter(value), None) if isinstance(value, dict) and len(value) == 1 else None
    if kind not in _ARGUMENTS:
        raise ValueError(f"{path} is not one of {', '.join(_ARGUMENTS)}")
    return _ARGUMENTS[kind](value[kind], f"{path}.{kind}")


def _float(value: Any, path: str) -> Float:
    return Float(number(value, path))


def _tiled(value: Any, path: str) -> TiledMap:
    with fields(value, path) as tiled:
        return TiledMap(
            place=tiled.part("place", _place),
            extents=tiled.items("extents", _amount, 1, 5),
            strides=tiled.items("strides", lambda stride, at: integer(stride, at, 16, _MOST), 0, 4),
            box=tiled.items("box", lambda size, at: integer(size, at, 1, 256), 1, 5),
            swizzle=tiled.part("swizzle", _swizzle),
        )


def _window(value: Any, path: str) -> WindowMap:
    with fields(value, path) as window:
        return WindowMap(
            place=window.part("place", _place),
            images=window.part("images", _amount),
            swizzle=window.part("swizzle", _swizzle),
            **{name: window.integer(name, *bounds) for name, bounds in _WINDOW_BOUNDS.items()},
        )


def _swizzle(value: Any, path: str) -> int:
    if integer(value, path, 0, 128) not in _SWIZZLES:
        raise ValueError(f"{path} is {value}, expected one of {', '.join(map(str, _SWIZZLES))}")
    return int(value)


_WINDOW_BOUNDS = {
    "height": (1, 1 << 20),
    "width": (1, 1 << 20),
    "channels": (1, 1 << 20),
    "kernel": (1, 128),
    "padding": (0, 127),
    "stride": (1, 8),
    "channels_per_pixel": (1, 256),
    "pixels": (1, 1024),
}
"""CUDA driver API, cuTensorMapEncodeIm2col: strides up to 8, corners of one byte, 256 channels and 1024 pixels a copy."""
_ARGUMENTS: dict[str, Callable[[Any, str], Argument]] = {
    "amount": _amount,
    "place": _place,
    "float": _float,
    "tiled": _tiled,
    "window": _window,
}
