"""What commands print, and the result file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cmx4trt.cli.output import check_result, print_json, print_table, write_result
from cmx4trt.errors import OutputError


def test_a_table_has_one_column_of_names(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("built", [("engine", "a.plan"), ("size", "5 MB\x1b[31m")])
    assert capsys.readouterr().out == "built\n  engine  a.plan\n  size    5 MB\\x1b[31m\n"
    print_table("nothing", [])
    assert capsys.readouterr().out == "nothing\n"


def test_json_commands_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_json(json.dumps({"a": "\x9b31m ü"}, ensure_ascii=False))
    out = capsys.readouterr().out
    assert json.loads(out) == {"a": "\x9b31m ü"}
    assert "\x9b" not in out


def test_the_result_file_holds_the_outcome(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_result(str(path), {"exports": {"A": "ü"}})
    assert json.loads(path.read_text()) == {"exports": {"A": "ü"}}


@pytest.mark.parametrize("place", ["folder", "missing/result.json"])
def test_a_result_that_cannot_be_written_is_refused_early(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="--result"):
        check_result(str(tmp_path / place))
    check_result(None)
