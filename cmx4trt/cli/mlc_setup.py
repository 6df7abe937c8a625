"""``cmx4trt mlc-setup``: registers this package's script as an MLC repository."""

from __future__ import annotations

import argparse

from cmx4trt.cli.following import after_mlc_setup, print_next
from cmx4trt.cli.output import print_table


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """The command has no arguments."""


def run(arguments: argparse.Namespace) -> int:
    """Register, check, and print which script MLC now finds. Raises CmxError."""
    from cmx4trt.mlc.setup import register

    print_table("mlc-setup", register())
    print_next(after_mlc_setup())
    return 0
