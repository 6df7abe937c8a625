"""``cmx4trt cm-setup``: registers this script in CM's index."""

from __future__ import annotations

import argparse

from cmx4trt.cli.following import after_cm_setup, print_next
from cmx4trt.cli.output import print_table


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """The command has no arguments."""


def run(arguments: argparse.Namespace) -> int:
    """Register, check, and print which script CM now finds. Raises CmxError."""
    from cmx4trt.cm.setup import register

    print_table("cm-setup", register())
    print_next(after_cm_setup())
    return 0
