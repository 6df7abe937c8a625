"""Programs run as python -m."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmx4trt.base.commands import output_of_module
from cmx4trt.errors import MissingSoftwareError, OutputError


@pytest.fixture
def in_folder(tmp_path: Path) -> Path:
    (tmp_path / "greet.py").write_text("import sys\nprint(sys.argv[1], repr(sys.stdin.read()))\n")
    (tmp_path / "fail.py").write_text("import sys\nprint('first', file=sys.stderr)\nsys.exit('last')\n")
    (tmp_path / "silent.py").write_text("raise SystemExit(4)\n")
    return tmp_path


def test_its_output(in_folder: Path) -> None:
    """Standard input is empty."""
    assert output_of_module("greet", "hello", shown="greet", missing="none", cwd=str(in_folder)) == "hello ''\n"


def test_a_missing_module(in_folder: Path) -> None:
    with pytest.raises(MissingSoftwareError, match="greet2 is not installed"):
        output_of_module("greet2", shown="greet2", missing="greet2 is not installed", cwd=str(in_folder))


@pytest.mark.parametrize(
    ("module", "words"), [("fail", "'x y' failed: last"), ("silent", "'x y' failed: exit status 4")]
)
def test_a_failure(in_folder: Path, module: str, words: str) -> None:
    with pytest.raises(OutputError, match=words):
        output_of_module(module, shown="x y", missing="none", cwd=str(in_folder))
