"""What ``cmr … -h`` and ``mlcr … -h`` print: this script's variations, flags and examples. Standard library only."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from cmx4trt import __version__
from cmx4trt.frameworks.base import Framework

_MAX_WIDTH = 110
"""Longer lines are hard to read."""
_COLUMN = 24
"""Where explanations begin."""

EXAMPLES = (
    ("ResNet-50 with random weights: nothing is downloaded", "_random-weights", ""),
    ("dynamic batch of 1 to 16, another seed", "_resnet50 _batch_size.16 _random-weights.7", ""),
    ("your own ONNX file in bfloat16, for two GPU generations", "_bf16", "--model=resnet50.onnx --target=ampere,ada"),
    ("RetinaNet, published in a folder of your choice", "_retinanet _random-weights", "--output_dir=my-engines"),
    ("int8 from a calibration cache", "_int8", "--model=resnet50.onnx --calibration_cache=cal.cache"),
    ("build, then benchmark with MLPerf LoadGen", "_random-weights _bench", "--scenario=Offline"),
    ("show what would be built (dry run)", "_retinanet _batch_size.4", "--dry_run=yes"),
)
"""Purpose, variations, flags."""


def end_with_help(framework: Framework, meta: Mapping[str, Any]) -> NoReturn:
    """Answer a typed -h. The framework would run the script, then describe itself; exiting here avoids both without an error."""
    sys.stdout.write(help_text(framework, meta))
    sys.stdout.flush()
    raise SystemExit(0)


def help_text(framework: Framework, meta: Mapping[str, Any], width: int | None = None) -> str:
    """The whole help, for a terminal of ``width`` columns (default: this one)."""
    width = min(width or shutil.get_terminal_size().columns, _MAX_WIDTH)
    return "\n".join(_lines(framework, meta, width)) + "\n"


def _lines(framework: Framework, meta: Mapping[str, Any], width: int) -> Iterator[str]:
    yield f"{meta['name']} (cmx4trt {__version__})"
    yield ""
    yield from (f"  {line}" for line in framework.usages)
    yield ""
    yield "Examples"
    for purpose, variations, flags in EXAMPLES:
        yield f"  # {purpose}"
        yield f"  {framework.usage(variations, flags)}"
    yield ""
    yield "Variations (at most one per group)"
    groups = ["", *meta.get("variation_groups_order", [])]
    rows = [(name, row) for name, row in meta["variations"].items() if "," not in name]
    for group in sorted(groups, key=lambda name: name == ""):
        yield f"  {group or 'no group (any number)'}"
        for name, row in rows:
            if row.get("group", "") == group:
                default = " (default)" if row.get("default") else ""
                yield from _row(f"    _{name.replace('#', 'N')}", _meaning(row, meta["input_mapping"]) + default, width)
    yield ""
    yield "Flags (--flag=VALUE; an explicit value overrides every default)"
    for name, row in meta["input_description"].items():
        choices = "{" + ",".join(row["choices"]) + "}" if "choices" in row else "VALUE"
        default = f" (default: {row['default']})" if "default" in row else ""
        yield from _row(f"  --{name}={choices}", row["desc"] + default, width)
    yield ""
    yield framework.help_hint


def _meaning(row: Mapping[str, Any], mapping: Mapping[str, str]) -> str:
    """A variation's description; one with a number does what the flag with the same key does."""
    same = next((flag for flag, key in mapping.items() if row.get("default_env", {}).get(key) == "#"), "")
    return str(row.get("desc") or f"Same as --{same}=N")


def _row(head: str, text: str, width: int) -> list[str]:
    """An entry and its explanation, which begins in the same line where there is room."""
    indent = " " * _COLUMN
    wrapped = textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    if len(head) < _COLUMN - 1:
        return [head + wrapped[0][len(head) :], *wrapped[1:]]
    return [head, *wrapped]
