"""The variation ``_sweep``: a sweep file in place of one build. Standard library only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from cmx4trt.base.values import parse_bool, parse_path
from cmx4trt.errors import RequestError
from cmx4trt.frameworks.base import Framework

SWEEP_KEY = "CMX4TRT_RUN_SWEEP"
"""What the variation sets."""
_VARIATION = "sweep"
SWEEP_FLAG = "sweep"
_FLAGS = (SWEEP_FLAG, "dry_run", "output_dir")
"""Flags that mean something beside it: everything else stands in the file."""


def sweep_of_environment(
    framework: Framework, i: Mapping[str, Any], values: Mapping[str, Any], mapping: Mapping[str, str]
) -> str:
    """The path of the sweep file; empty where none is asked for. Raises RequestError for what goes together with none.

    ``i``: what the framework hands to a hook; ``values``: the environment with what was typed.
    """
    given = values.get(mapping.get(SWEEP_FLAG, ""))
    if not parse_bool(SWEEP_KEY, values.get(SWEEP_KEY, False)):
        if SWEEP_FLAG in i["input"]:
            raise RequestError("--sweep has no effect without _sweep; add it to the tags")
        return ""
    if not given:
        raise RequestError(
            "_sweep runs a sweep file, and none was given; add --sweep=FILE ('cmx4trt sweep init' writes one)"
        )
    alien = [f"_{name}" for name in framework.variations(i) if name != _VARIATION]
    alien += [f"--{flag}" for flag in mapping if flag in i["input"] and flag not in _FLAGS]
    if alien:
        raise RequestError(f"{alien[0]} has no effect with _sweep, whose cells stand in the file; put it there")
    path = parse_path(SWEEP_FLAG, given)
    if not os.path.isfile(path):
        raise RequestError(f"there is no sweep file {path}; give a path, or write one with 'cmx4trt sweep init'")
    return path
