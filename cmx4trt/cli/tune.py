"""``cmx4trt tune``: measures, on this machine's GPU, which kernels later builds of an engine should use."""

from __future__ import annotations

import argparse
import sys

from cmx4trt.cli.arguments import add_option
from cmx4trt.cli.following import after_tune, print_next
from cmx4trt.cli.output import print_table
from cmx4trt.requests.evaluation_options import VERIFY_OPTIONS


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """The arguments of ``cmx4trt tune``."""
    parser.add_argument("engine", metavar="ENGINE", help="the engine file, or its manifest")
    parser.add_argument("--save", metavar="FILE", help="path of the table (default: beside the engine, .kernels.json)")
    add_option(parser, next(option for option in VERIFY_OPTIONS if option.name == "model"))
    parser.set_defaults(interrupted="interrupted; no table was written")


def run(arguments: argparse.Namespace) -> int:
    """Measure, write, and explain how to use the table. Raises CmxError."""
    from cmx4trt.cli.terminal import TerminalProgress
    from cmx4trt.pipeline.tune import tune_engine

    tuned = tune_engine(arguments.engine, arguments.save, arguments.model, TerminalProgress(sys.stderr))
    print_table("tuned", [("table", tuned.path), *tuned.rows])
    print_next(after_tune(tuned.option, tuned.path))
    return 0
