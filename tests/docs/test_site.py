"""The documents as a whole: every page can be reached, every named test exists, README and site agree on links."""

from __future__ import annotations

import ast
import inspect
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

import cmx4trt

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEST_NAME = re.compile(r"`(tests/[\w/.]+\.py)::(\w+)`")


@pytest.fixture(scope="module")
def site() -> ModuleType:
    """docs/conf.py."""
    spec = spec_from_file_location("docs_conf", DOCS / "conf.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_navigation_holds_every_page_once(site: ModuleType) -> None:
    listed = [page for pages in site.NAVIGATION.values() for page in pages]
    there = [str(page.relative_to(ROOT).with_suffix("")) for page in PAGES]
    decisions = [page for page in there if re.match(r"docs/decisions/\d", page)]
    assert sorted(listed) == sorted([*(p for p in there if p not in decisions), "CHANGELOG", "CONTRIBUTING"])


@pytest.mark.parametrize("index", ["index.md", "decisions/index.md"])
def test_index_pages_name_every_page(index: str) -> None:
    folder = (DOCS / index).parent
    text = (DOCS / index).read_text(encoding="utf-8")
    linked = {str((folder / target).resolve()) for target in re.findall(r"\]\(([^)#:]+\.md)[^)]*\)", text)}
    pages = [p for p in PAGES if (p.parent == folder if index.startswith("dec") else not p.name[:3].isdigit())]
    assert {str(page) for page in pages if page != DOCS / index} <= linked


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES], ids=lambda p: p.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    """As on a forge; the site's build checks the same for itself."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        file, _, heading = target.partition("#")
        path = (page.parent / file) if file else page
        assert path.exists(), target
        if heading:
            assert heading in anchors_of(path), target


def anchors_of(page: Path) -> set[str]:
    """Ids that a forge gives to headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_row_of_the_seed_names_a_test_that_exists() -> None:
    text = (DOCS / "reference" / "seed.md").read_text(encoding="utf-8")
    rows = [
        line
        for line in text.splitlines()
        if line.startswith("|") and not re.match(r"\|[-| ]+$|\| (upstream|dep)", line)
    ]
    assert len(rows) > 35
    for row in rows:
        assert TEST_NAME.search(row), row
    for file, name in TEST_NAME.findall(text):
        functions = {n.name for n in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(n, ast.FunctionDef)}
        assert name in functions, f"{file} has no test {name}"


@pytest.mark.parametrize("script", ["run", "lowest"])
def test_ci_names_paths_that_exist(script: str) -> None:
    """pytest ends over a path that is not there before it runs any test."""
    paths = re.findall(r"\btests/[\w/.]+", (ROOT / ".ci" / script).read_text(encoding="utf-8"))
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_license() -> None:
    assert '\nlicense = "Apache-2.0"\n' in (ROOT / "pyproject.toml").read_text()
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_public_names() -> None:
    """All can be had, all are documented, and they are what type checkers see."""
    tree = ast.parse(inspect.getsource(cmx4trt))
    typed = {alias.asname for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(cmx4trt.__all__) == set(cmx4trt._MODULES) | {"__version__"}
    assert typed - {None} == set(cmx4trt._MODULES)
    page = (DOCS / "reference" / "python-api.md").read_text(encoding="utf-8")
    for name in cmx4trt.__all__:
        assert getattr(cmx4trt, name)
        assert f"\n## `{name}`\n" in page
        assert getattr(cmx4trt, name).__doc__
    assert re.findall(r"^## `(\w+)`", page, re.M) == [*(n for n in cmx4trt.__all__ if n not in LAST), *LAST]
    with pytest.raises(AttributeError, match="no attribute 'bild'"):
        _ = cmx4trt.bild


LAST = ("errors", "__version__")
"""Names that the page has at its end."""


def test_requests_of_proofs_are_checked() -> None:
    request = cmx4trt.EvaluationRequest.from_values(
        "engine.plan", {"duration": "2", "scenario": "server", "count": None}
    )
    asked = request.options
    assert (asked.duration, asked.scenario, asked.count) == (2.0, "Server", None)
    assert Path(request.engine).is_absolute()
    for values in ({"durations": 2}, {"duration": "long"}, {"mode": "fast"}):
        with pytest.raises(cmx4trt.errors.RequestError):
            cmx4trt.EvaluationRequest.from_values("engine.plan", values)


def test_no_command_needs_a_release_on_the_index() -> None:
    """Documents install from a clone or a wheel, which works on any day; errors say what works for the copy at hand."""
    pages = [ROOT / "README.md", *DOCS.rglob("*.md")]
    lines = [line for page in pages for line in page.read_text(encoding="utf-8").splitlines()]
    assert [line for line in lines if re.search(r"pip install\b.*[\s'\"]cmx4trt\b(?!\S*/)", line)] == []
