"""``cmx4trt inspect``: an engine's manifest, formatted or as JSON."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cmx4trt.backends import find_backend
from cmx4trt.backends.facts import Cell, Section, Share
from cmx4trt.base.progress import CHECK_ENGINE
from cmx4trt.base.records import rows_of_record
from cmx4trt.cli.following import after_inspect, print_next
from cmx4trt.cli.output import print_json, print_table
from cmx4trt.errors import ModelError

if TYPE_CHECKING:
    from cmx4trt.store.manifest import Manifest


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """The arguments of ``cmx4trt inspect``."""
    parser.add_argument("engine", metavar="ENGINE", help="the engine file, or its manifest")
    parser.add_argument("--json", action="store_true", help="print the manifest as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the manifest, and whether the engine file is the one it describes. Raises ModelError, also if it is not."""
    from cmx4trt.cli.terminal import TerminalProgress
    from cmx4trt.store import folder as store

    path, manifest = store.read_published_manifest(arguments.engine)
    with TerminalProgress(sys.stderr).stage(CHECK_ENGINE):
        doubt = store.doubt_of_engine(path, manifest)
    if arguments.json:
        print_json(manifest.to_json().removesuffix("\n"))
    else:
        for title, part in manifest.sections():
            if rows := list(rows_of_record(part)):
                print_table(title, rows)
        for section in _own_sections(manifest):
            print_table(section.title, [*(("", text) for text in section.paragraphs), *map(_row, section.rows)])
    if doubt:
        raise ModelError(f"{doubt}; the manifest describes another file: build the engine again")
    if not arguments.json:
        print_table("engine file now", [("state", store.UNCHANGED)])
        print_next(after_inspect(arguments.engine))
    return 0


def _own_sections(manifest: Manifest) -> Sequence[Section]:
    """What the engine's backend reports; nothing if this installation does not have that backend."""
    backend = find_backend(manifest.builder.name)
    return backend.sections(manifest.builder.to_dict(), manifest.execution.to_dict()) if backend else ()


def _row(cells: Sequence[Cell]) -> tuple[str, str]:
    first, *others = (cell.text if isinstance(cell, Share) else cell for cell in cells)
    return first, "  ".join(others)
