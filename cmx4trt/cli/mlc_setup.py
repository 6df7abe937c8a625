"""``cmx4trt mlc-setup``: MLC's repositories, made to include this package's script."""

from __future__ import annotations

import argparse

from cmx4trt.cli.following import after_mlc_setup, print_next
from cmx4trt.cli.output import print_table


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """It has none."""


def run(arguments: argparse.Namespace) -> int:
    """Register, check, and show what MLC now finds. Raises CmxError."""
    from cmx4trt.mlc.setup import register

    print_table("mlc-setup", register())
    print_next(after_mlc_setup())
    return 0
