"""Fakes are passed in: no test replaces a part of the package behind its back, but for the few named here."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ALLOWED = {
    "unit/bench/test_bench_runs.py": (
        1,
        "the threads left behind, of which one that never ends must leave the list again",
    ),
    "unit/conftest.py": (1, "where this copy of the package lies: an environment"),
    "unit/gui/test_gui_page_results.py": (
        1,
        "an encoder that gives up, as Python's does at a depth of its own choosing",
    ),
    "unit/pipeline/test_build.py": (1, "watched: stages that a terminal shows only when they take their time"),
    "unit/pipeline/test_build_stop.py": (2, "watched, not replaced: who waits for a thread, and for how long"),
    "unit/graph/judge/test_alike.py": (1, "watched, not replaced: which layers are computed"),
    "unit/graph/judge/test_judge.py": (1, "the size of the parts in which a graph is judged"),
}
"""File -> how many patches of our own code it may have, and why they are the honest way. Do not add to it: give the object a
parameter instead (CONTRIBUTING.md, Tests)."""


def patches_of_our_code(source: str) -> list[int]:
    """Lines with ``setattr(target, …)`` of a fixture, where the target is the package's: by name, or imported from it."""
    tree, ours = ast.parse(source), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "cmx4trt":
            ours |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            named = [alias for alias in node.names if alias.name.split(".")[0] == "cmx4trt"]
            ours |= {alias.asname or "cmx4trt" for alias in named}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            target = node.args[0]
            text = str(target.value) if isinstance(target, ast.Constant) else ""
            named_here = {inner.id for inner in ast.walk(target) if isinstance(inner, ast.Name)}
            patches = node.func.attr == "setattr" and (bool(named_here & ours) or text.startswith("cmx4trt"))
            if patches or (node.func.attr == "patch" and text.startswith("cmx4trt")):
                found.append(node.lineno)
    return found


def test_fakes_are_passed_in() -> None:
    found = {
        str(path.relative_to(TESTS)): lines
        for path in sorted(TESTS.rglob("*.py"))
        if (lines := patches_of_our_code(path.read_text(encoding="utf-8")))
    }
    for name, lines in found.items():
        most = ALLOWED.get(name, (0, ""))[0]
        assert len(lines) <= most, (
            f"tests/{name}: lines {lines} patch our own code; pass the fake as a parameter instead"
        )
    gone = {name: count for name, (count, _) in ALLOWED.items() if len(found.get(name, ())) < count}
    assert gone == {}, "fewer than ALLOWED says: lower the number"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('monkeypatch.setattr("cmx4trt.bench.run.x", 1)', 1),
        ("patch.setattr(Manifest, 'x', 1)", 1),
        ("patch.setattr(type(Manifest()), 'x', 1)", 1),
        ("patch.setattr(loadgen.gc, 'x', 1)", 1),
        ('mock.patch("cmx4trt.bench.run.x")', 1),
        ('monkeypatch.setattr("webbrowser.open", 1)', 0),
        ('monkeypatch.setattr(os, "write", 1)', 0),
        ('monkeypatch.setitem(sys.modules, "ray", None)', 0),
        ("setattr(Manifest, 'x', 1)", 0),
    ],
)
def test_patches_are_seen(line: str, expected: int) -> None:
    imports = "import os, sys\nfrom cmx4trt.bench import loadgen\nfrom cmx4trt.store.manifest import Manifest\n"
    assert len(patches_of_our_code(imports + line)) == expected
