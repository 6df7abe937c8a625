"""The site: README.md and docs/ as they are on a forge, checked for broken links. Made by ``sphinx-build -W -c docs . site``.

The source folder is the repository, so that links between README.md, CONTRIBUTING.md and docs/ are the same in both places.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

project = "cmx4trt"
release = re.findall(r'^__version__ = "(.+)"', (ROOT / "cmx4trt" / "__init__.py").read_text(), re.M)[0]
author = copyright = "the cmx4trt authors"

extensions = ["myst_parser"]
root_doc = "README"
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**"]
exclude_patterns = ["README-extra.md", "cmx4trt", "tests", "benchmarks", "site", "dist", ".*", "**/__pycache__"]
"""Folders that are not even searched; cmx4trt/script holds a link back to the repository."""

myst_heading_anchors = 3

html_theme = "furo"
html_title = f"cmx4trt {release}"
html_copy_source = False
html_show_sourcelink = False

NAVIGATION = {
    "": ["docs/index", "docs/tutorial"],
    "How to": [
        "docs/how-to/run",
        "docs/how-to/own-model",
        "docs/how-to/int8",
        "docs/how-to/retinanet",
        "docs/how-to/hopper",
        "docs/how-to/common-code",
        "docs/how-to/bench",
        "docs/how-to/report",
        "docs/how-to/sweep",
        "docs/how-to/gui",
        "docs/how-to/docker",
        "docs/how-to/ci",
        "docs/how-to/python",
        "docs/how-to/consumer",
        "docs/how-to/backend",
        "docs/how-to/network",
        "docs/how-to/troubleshooting",
    ],
    "Reference": [
        "docs/reference/inputs",
        "docs/reference/exports",
        "docs/reference/exit-codes",
        "docs/reference/manifest",
        "docs/reference/result",
        "docs/reference/python-api",
        "docs/reference/seed",
        "docs/reference/front-ends",
        "docs/reference/common-code",
        "docs/reference/hardware",
    ],
    "Explanation": [
        "docs/explanation/explicit-qdq",
        "docs/explanation/hopper",
        "docs/explanation/hopper-arithmetic",
        "docs/explanation/nms",
        "docs/explanation/verification",
        "docs/explanation/store",
        "docs/explanation/how-cm-finds-it",
        "docs/decisions/index",
    ],
    "Project": ["CHANGELOG", "CONTRIBUTING"],
}
"""Caption -> pages. Kept here and not in the pages: a forge would show the directive as text."""


def _toctree(caption: str, pages: list[str]) -> str:
    return "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}" if caption else "", *pages, "```", ""])


def _add_navigation(app: Any, page: str, source: list[str]) -> None:
    """The side bar: the first page gets every section, the list of decisions its decisions."""
    if page == root_doc:
        source[0] += "".join(_toctree(caption, [f"/{p}" for p in pages]) for caption, pages in NAVIGATION.items())
    elif page == "docs/decisions/index":
        source[0] += _toctree("", sorted(f"/{p}" for p in app.env.found_docs if re.match(r"docs/decisions/\d", p)))


def _write_first_page(app: Any, error: Exception | None) -> None:
    """index.html leads to the README's page."""
    if error is None and app.builder.name == "html":
        target = f'<meta charset="utf-8"><meta http-equiv="refresh" content="0; url={root_doc}.html"><title>{project}</title>\n'
        (Path(app.outdir) / "index.html").write_text(target, encoding="utf-8")


def _check_no_network(app: Any, error: Exception | None) -> None:
    """A page that loads something from elsewhere tells others who reads it, and is empty without a network."""
    for page in Path(app.outdir).rglob("*.html") if error is None else ():
        text = page.read_text(encoding="utf-8")
        found = re.search(r"""<(?:script|link|img)[^>]+(?:src|href)="https?://[^"]+""", text)
        if found:
            from sphinx.errors import ExtensionError

            raise ExtensionError(f"{page} loads {found[0]}")


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", _add_navigation)
    app.connect("build-finished", _write_first_page)
    app.connect("build-finished", _check_no_network)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
