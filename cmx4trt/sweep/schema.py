"""The JSON Schema of sweep files, made from the options: for editors, and for those who write sweeps by program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cmx4trt.base.options import YES_NO, Option
from cmx4trt.sweep.file import GPU_OPTIONS, PLACE_OPTIONS, SLURM_OPTIONS, TASK_OPTIONS
from cmx4trt.sweep.options import ACCURACY, BENCH, cell_options

_PLAIN = "string number boolean null".split()  # noqa: SIM905  (the architecture tests take a list for names of backends)
_CELL = {"$ref": "#/$defs/cell"}


def schema_of_sweeps() -> dict[str, Any]:
    """The schema (draft 2020-12). What it cannot say, such as which combinations can be built, the command checks."""
    options = cell_options()
    values = {name: {"$ref": f"#/$defs/{name}"} for name in options}
    either = {BENCH: {"anyOf": [values[BENCH], _inner(BENCH, options)]}, ACCURACY: _inner(ACCURACY, options)}
    axes = {
        name: {"anyOf": [value, {"type": "array", "items": value, "minItems": 1}]} for name, value in values.items()
    }
    gpus = {
        "type": "object",
        "description": "kind of GPU -> how to request it from Slurm",
        "additionalProperties": _options(GPU_OPTIONS, ""),
    }
    slurm = _options(SLURM_OPTIONS, "How to request nodes from Slurm.")
    slurm["properties"]["gpus"] = gpus
    sections = {
        "defaults": {**_CELL, "description": "What all cells have in common."},
        "matrix": _object(axes, "Every combination of these values is a cell."),
        "exclude": {"type": "array", "items": _CELL, "description": "Combinations of the matrix to leave out."},
        "include": {"type": "array", "items": _CELL, "description": "Cells in addition to the matrix."},
        "store": {"type": "string", "description": "Folder of the engines, relative to the file (default: engines)."},
        **{name: _value(one) for name, one in PLACE_OPTIONS.items()},
        "tasks": _options(TASK_OPTIONS, "What one task takes."),
        "slurm": slurm,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A sweep of cmx4trt",
        **_object(sections, "Many engines from one file: cmx4trt sweep FILE."),
        "$defs": {
            "cell": _object({**values, **either}, "Values of one cell, or of all."),
            **{name: _value(option) for name, option in options.items()},
        },
    }


def _inner(prefix: str, options: Iterable[str]) -> dict[str, Any]:
    """The options of bench or accuracy without their prefix."""
    names = [name for name in options if name.startswith(f"{prefix}.")]
    return _object({name.partition(".")[2]: {"$ref": f"#/$defs/{name}"} for name in names}, f"Options of {prefix}.")


def _options(options: Mapping[str, Option], description: str) -> dict[str, Any]:
    return _object({name: _value(option) for name, option in options.items()}, description)


def _value(option: Option) -> dict[str, Any]:
    """A value as YAML writes it: 'yes' and 'no' are booleans there, numbers may be text."""
    known: dict[str, Any] = {"description": option.help}
    if option.kind is YES_NO:
        return {"enum": [True, False, "yes", "no"], **known}
    return {"enum": [*option.choices, None], **known} if option.choices else {"type": _PLAIN, **known}


def _object(properties: Mapping[str, Any], description: str) -> dict[str, Any]:
    described = {"description": description} if description else {}
    return {"type": "object", **described, "properties": dict(properties), "additionalProperties": False}
