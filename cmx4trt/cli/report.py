"""``cmx4trt report``: a page about one engine, or several side by side; the same facts as JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cmx4trt.base.progress import CHECK_ENGINE
from cmx4trt.base.values import absolute_path
from cmx4trt.cli.following import after_report, print_next
from cmx4trt.cli.output import print_json, print_table
from cmx4trt.devices.gpus import NAMES, Gpu, gpu_of_name
from cmx4trt.errors import RequestError
from cmx4trt.report.gpu_choice import gpu_of_engines
from cmx4trt.store import folder as store

if TYPE_CHECKING:
    from cmx4trt.report.facts import EngineFacts

SCHEMA = "cmx4trt-report/1"
"""Name and version of the format that ``--json`` prints."""
COMPARISON = "comparison.html"
"""The default page for several engines, in the current folder."""


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """The arguments of ``cmx4trt report``."""
    parser.add_argument(
        "engines", metavar="ENGINE", nargs="+", help="engine file or its manifest; several are compared"
    )
    parser.add_argument(
        "--html",
        metavar="FILE",
        help=f"path of the page (default: <engine>.report.html beside one engine; for several, {COMPARISON} here)",
    )
    parser.add_argument(
        "--gpu",
        metavar="NAME",
        help=f"GPU to estimate the speed for: {', '.join(NAMES)} (default: one that most of the engines support)",
    )
    parser.add_argument("--json", action="store_true", help="print the facts as JSON; write a page only with --html")
    parser.set_defaults(interrupted="interrupted; no report was written")


def run(arguments: argparse.Namespace) -> int:
    """Read, lay out, write. Raises CmxError."""
    from cmx4trt.cli.terminal import TerminalProgress
    from cmx4trt.report.facts import facts_of_engine
    from cmx4trt.report.writing import check_page_path

    asked = None if arguments.gpu is None else gpu_of_name(arguments.gpu)
    progress = TerminalProgress(sys.stderr)
    with progress.stage(CHECK_ENGINE):
        engines = [facts_of_engine(absolute_path(path)) for path in arguments.engines]
    paths = [facts.engine for facts in engines]
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise RequestError(f"{twice} is given twice; give every engine once")
    gpu = asked or gpu_of_engines(engines)
    path = None if arguments.json and not arguments.html else _page_path(arguments.html, engines)
    if path is not None:
        check_page_path(path)
        _write(path, engines, gpu, progress.note)
    if arguments.json:
        print_json(json.dumps(_content(engines, gpu), indent=2, ensure_ascii=True))
    else:
        print_table("report", [("page", str(path)), ("engines", str(len(engines)))])
        print_next(after_report(str(path)))
    return 0


def _page_path(html: str | None, engines: Sequence[EngineFacts]) -> str:
    """The path of the page. Raises RequestError."""
    if html is not None:
        if not html or html.endswith("/") or os.path.isdir(html):
            raise RequestError(f"html is '{html}', expected the name of a file to write, such as report.html")
        return absolute_path(html)
    return store.report_path_of(engines[0].engine) if len(engines) == 1 else absolute_path(COMPARISON)


def _write(path: str, engines: Sequence[EngineFacts], gpu: Gpu, note: Callable[[str], None]) -> None:
    from cmx4trt.report.comparison import page_of_engines
    from cmx4trt.report.facts import showing
    from cmx4trt.report.page import page_of_engine
    from cmx4trt.report.writing import write_page

    with showing(" or ".join(facts.manifest_path for facts in engines)):
        page = page_of_engine(engines[0], gpu, note) if len(engines) == 1 else page_of_engines(engines, gpu, note)
    write_page(path, page)


def _content(engines: Sequence[EngineFacts], gpu: Gpu) -> dict[str, object]:
    """The content of the pages as JSON types. Raises ModelError."""
    from cmx4trt.report.facts import showing
    from cmx4trt.report.verdicts import verdicts_of_engine

    shown = []
    for facts in engines:
        with showing(facts.manifest_path):
            verdicts = [verdict.to_dict() for verdict in verdicts_of_engine(facts)]
        shown.append({**facts.to_dict(), "verdicts": verdicts, "estimate": _estimate(facts, gpu)})
    return {"schema": SCHEMA, "engines": shown}


def _estimate(facts: EngineFacts, gpu: Gpu) -> dict[str, object] | None:
    """The estimate with its caveats: whether the engine supports this GPU, and how many operators are excluded."""
    from cmx4trt.report.estimates import estimate_layers

    estimate = estimate_layers(facts.layers, gpu, facts.batch)
    if estimate is None:
        return None
    left_out = sum(facts.uncounted.values())
    return {**estimate.to_dict(), "engine_is_for_this_gpu": gpu in facts.gpus, "operators_left_out": left_out}
