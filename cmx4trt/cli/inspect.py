"""``cmx4trt inspect``: an engine's manifest, for people or as it is."""

from __future__ import annotations

import argparse
import json
from typing import Any

from cmx4trt.cli.output import print_table, print_text


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """The arguments of ``cmx4trt inspect``."""
    parser.add_argument("engine", metavar="ENGINE", help="the engine file, or its manifest")
    parser.add_argument("--json", action="store_true", help="print the manifest as it is")


def run(arguments: argparse.Namespace) -> int:
    """Print the manifest, and whether the engine file is still the one it describes. Raises ModelError."""
    from cmx4trt import store

    path, manifest = store.read_published_manifest(arguments.engine)
    if arguments.json:
        print_text(manifest.to_json().removesuffix("\n"))
        return 0
    for title, part in manifest.sections():
        print_table(title, [(name, _shown(value)) for name, value in part.items()])
    print_table("engine file now", [("state", store.describe_engine(path, manifest))])
    return 0


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
