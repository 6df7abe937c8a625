"""The JSON Schema of sweep files, made from the options: for editors, and for those who write sweeps by program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cmx4trt.requests.options import Option
from cmx4trt.sweep.file import GPU_OPTIONS, SLURM_OPTIONS, TASK_OPTIONS
from cmx4trt.sweep.options import ACCURACY, BENCH, CELL_OPTIONS

_PLAIN = ["string", "number", "boolean", "null"]


def schema_of_sweeps() -> dict[str, Any]:
    """The schema (draft 2020-12). What it cannot say, such as which combinations can be built, the command checks."""
    values = {name: _value(option) for name, option in CELL_OPTIONS.items()}
    cell = _object(
        {**values, BENCH: {"anyOf": [values[BENCH], _inner(BENCH)]}, ACCURACY: _inner(ACCURACY)},
        "Values of one cell, or of all.",
    )
    axes = {
        name: {"anyOf": [value, {"type": "array", "items": value, "minItems": 1}]} for name, value in values.items()
    }
    slurm = {
        **{name: _value(option) for name, option in SLURM_OPTIONS.items()},
        "gpus": {
            "type": "object",
            "description": "kind of GPU -> how Slurm gives it",
            "additionalProperties": _options(GPU_OPTIONS),
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A sweep of cmx4trt",
        **_object(
            {
                "defaults": cell,
                "matrix": _object(axes, "Every combination of these values is a cell."),
                "exclude": {"type": "array", "items": cell, "description": "Combinations of the matrix to leave out."},
                "include": {"type": "array", "items": cell, "description": "Cells beside the matrix."},
                "store": {
                    "type": "string",
                    "description": "Folder of the engines, relative to the file (default: engines).",
                },
                "tasks": _options(TASK_OPTIONS),
                "slurm": _object(slurm, "How Slurm is asked for nodes."),
            }
        ),
    }


def _options(options: Mapping[str, Option]) -> dict[str, Any]:
    return _object({name: _value(option) for name, option in options.items()})


def _inner(prefix: str) -> dict[str, Any]:
    """The options of bench or accuracy without their prefix."""
    own = {
        name.partition(".")[2]: _value(option) for name, option in CELL_OPTIONS.items() if name.startswith(f"{prefix}.")
    }
    return _object(own)


def _value(option: Option) -> dict[str, Any]:
    """A value as YAML writes it: 'yes' and 'no' are booleans there, numbers may be text."""
    known: dict[str, Any] = {"description": option.help}
    if not option.choices:
        return {"type": _PLAIN, **known}
    return {
        "enum": [True, False, "yes", "no"] if set(option.choices) <= {"yes", "no"} else [*option.choices, None],
        **known,
    }


def _object(properties: Mapping[str, Any], description: str = "") -> dict[str, Any]:
    described = {"description": description} if description else {}
    return {"type": "object", **described, "properties": dict(properties), "additionalProperties": False}
