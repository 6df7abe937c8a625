"""``cmx4trt prepare``: the graph that a builder is given, written as an ONNX file; nothing is built."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from cmx4trt.base.files import check_file
from cmx4trt.base.options import INT8, TENSORS, WEIGHTS
from cmx4trt.base.values import parse_path
from cmx4trt.cli.arguments import add_option
from cmx4trt.cli.output import print_table
from cmx4trt.errors import RequestError
from cmx4trt.requests.build import BuildRequest
from cmx4trt.requests.options import build_options

if TYPE_CHECKING:
    from cmx4trt.base.options import Option
    from cmx4trt.graph.network import PreparedGraph

_GROUPS = (WEIGHTS, TENSORS, INT8)
_WHAT = ("network", "device", "builder", "precision")
"""Of the options of a build, those that shape its graph."""
FLAG = "--save"


def _options() -> list[Option]:
    return [option for option in build_options() if option.group in _GROUPS or option.name in _WHAT]


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """The arguments of ``cmx4trt prepare``."""
    for option in _options():
        add_option(parser, option)
    parser.add_argument(FLAG, metavar="FILE", help="where to write the graph, an ONNX file")


def run(arguments: argparse.Namespace) -> int:
    """Prepare, write, and print what was written. Raises CmxError."""
    from cmx4trt.cli.terminal import TerminalProgress
    from cmx4trt.pipeline.saved import graph_of, save_graph

    path = saving_path(FLAG, arguments.save)
    if path is None:
        raise RequestError(f"no file to write the graph to; give {FLAG}=FILE.onnx")
    given = {option.name: getattr(arguments, option.name) for option in _options()}
    request = BuildRequest.from_values({name: value for name, value in given.items() if value is not None})
    graph = graph_of(request, TerminalProgress(sys.stderr))
    save_graph(graph, path, FLAG)
    print_table("prepared", rows_of_graph(graph, path))
    return 0


def saving_path(flag: str, value: str | None) -> str | None:
    """Where a flag says that a graph is to be written, checked before anything is prepared. Raises RequestError, OutputError."""
    if value is None:
        return None
    path = parse_path(flag.lstrip("-"), value)
    check_file(path, flag)
    return path


def rows_of_graph(graph: PreparedGraph, path: str) -> list[tuple[str, str]]:
    """What was written, and where."""
    shown = {"inputs": graph.inputs, "outputs": graph.outputs}
    rows = [
        (kind, ", ".join(f"{info.name} {list(info.dims or ())}" for info in infos)) for kind, infos in shown.items()
    ]
    return [
        ("graph", path),
        ("operators", str(len(graph.model.graph.nodes))),
        *rows,
        ("sha256", graph.encoded.sha256()),
    ]
