"""``cmx4trt docker-setup``: what the images of ``cm docker`` and ``mlc docker`` install, from this copy of the package."""

from __future__ import annotations

import argparse

from cmx4trt.base.values import parse_path
from cmx4trt.cli.following import after_docker_setup, print_next
from cmx4trt.cli.output import print_table


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """The argument for the folder."""
    parser.add_argument("folder", metavar="FOLDER", help="folder for Dockerfiles: the value of --docker_path")


def run(arguments: argparse.Namespace) -> int:
    """Prepare the folder, and print the commands that use it. Raises CmxError."""
    from cmx4trt.frameworks.image import prepare

    folder = parse_path("folder", arguments.folder)
    print_table("docker-setup", prepare(folder))
    print_next(after_docker_setup(folder))
    return 0
