"""Options as command-line arguments."""

from __future__ import annotations

import argparse

from cmx4trt.base.options import Option


def add_option(parser: argparse._ActionsContainer, option: Option) -> None:
    """The argument for one option, in both spellings of its name."""
    names = dict.fromkeys((f"--{option.name}", f"--{option.name.replace('_', '-')}"))
    metavar = "{" + ",".join(option.choices) + "}" if option.choices else option.kind.metavar
    default = "" if option.default is None else f" (default: {'yes' if option.default is True else option.default})"
    text = f"{option.help}{default}".replace("%", "%%")
    parser.add_argument(*names, dest=option.name, metavar=metavar, help=text)
