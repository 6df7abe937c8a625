"""``cmx4trt cm-setup``: CM's index of scripts, made to know this one."""

from __future__ import annotations

import argparse

from cmx4trt.cli.following import after_cm_setup, print_next
from cmx4trt.cli.output import print_table


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """It has none."""


def run(arguments: argparse.Namespace) -> int:
    """Register, check, and show what CM now finds. Raises CmxError."""
    from cmx4trt.cm.setup import register

    print_table("cm-setup", register())
    print_next(after_cm_setup())
    return 0
