"""``cmx4trt inspect``: an engine's manifest, for people or as it is."""

from __future__ import annotations

import argparse

from cmx4trt.cli.following import after_inspect, print_next
from cmx4trt.cli.output import print_json, print_table
from cmx4trt.errors import ModelError
from cmx4trt.records import rows_of_record


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """The arguments of ``cmx4trt inspect``."""
    parser.add_argument("engine", metavar="ENGINE", help="the engine file, or its manifest")
    parser.add_argument("--json", action="store_true", help="print the manifest as it is")


def run(arguments: argparse.Namespace) -> int:
    """Print the manifest, and whether the engine file is still the one it describes. Raises ModelError, also where it is not."""
    from cmx4trt import store

    path, manifest = store.read_published_manifest(arguments.engine)
    doubt = store.doubt_of_engine(path, manifest)
    if arguments.json:
        print_json(manifest.to_json().removesuffix("\n"))
    else:
        for title, part in manifest.sections():
            if rows := list(rows_of_record(part)):
                print_table(title, rows)
    if doubt:
        raise ModelError(f"{doubt}; the manifest describes another file: build the engine again")
    if not arguments.json:
        print_table("engine file now", [("state", store.describe_engine(path, manifest))])
        print_next(after_inspect(arguments.engine))
    return 0
