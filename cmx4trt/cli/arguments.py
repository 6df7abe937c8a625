"""Options as command-line arguments."""

from __future__ import annotations

import argparse

from cmx4trt.base.values import parse_bool, parse_path
from cmx4trt.requests.options import Option, Parser

_METAVARS: dict[Parser, str] = {parse_bool: "{yes,no}", parse_path: "PATH"}


def add_option(parser: argparse._ActionsContainer, option: Option) -> None:
    """The argument for one option, in both spellings of its name."""
    names = dict.fromkeys((f"--{option.name}", f"--{option.name.replace('_', '-')}"))
    metavar = "{" + ",".join(option.choices) + "}" if option.choices else _METAVARS.get(option.parse, "VALUE")
    default = "" if option.default is None else f" (default: {'yes' if option.default is True else option.default})"
    text = f"{option.help}{default}".replace("%", "%%")
    parser.add_argument(*names, dest=option.name, metavar=metavar, help=text)
