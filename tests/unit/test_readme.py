"""README says what the code does: its tables against the options, _cm.yaml, the exports and the exit codes."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import yaml

from cmx4trt import errors
from cmx4trt.options import OPTIONS
from cmx4trt.proof_options import CM_OPTIONS
from cmx4trt.results import BuildResult


@pytest.fixture(scope="session")
def readme(repository: Path) -> str:
    return (repository / "README.md").read_text()


@pytest.fixture(scope="session")
def meta(repository: Path) -> dict:
    return yaml.safe_load((repository / "_cm.yaml").read_text())


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its two head lines; backquotes removed."""
    section = re.split(r"^#+ ", text.split(f"\n## {heading}\n")[1], maxsplit=1, flags=re.M)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_flags(readme: str, meta: dict) -> None:
    table = {row[0].removeprefix("--"): row[1:] for row in rows(readme, "Flags")}
    assert list(table) == [*(option.name for option in (*OPTIONS, *CM_OPTIONS)), "dry_run"]
    assert set(table) == set(meta["input_mapping"]) == set(meta["input_description"])
    for option in (*OPTIONS, *CM_OPTIONS):
        key, default, _ = table[option.name]
        assert key == meta["input_mapping"][option.name]
        shown = "yes" if option.default is True else str(option.default or "")
        assert default == shown, option.name


def test_variations(readme: str, meta: dict) -> None:
    table = {row[0]: row[1:] for row in rows(readme, "Variations")}
    single = {name: body for name, body in meta["variations"].items() if "," not in name}
    assert set(table) == {f"_{name}" for name in single}
    for name, body in single.items():
        group, default, _ = table[f"_{name}"]
        assert group == body.get("group", "")
        assert (default == "yes") == bool(body.get("default"))


def test_exports(readme: str) -> None:
    table = [row[0] for row in rows(readme, "What the next script gets")]
    keys = re.findall(r'^ +"([A-Z0-9_]+)":', inspect.getsource(BuildResult.exports), re.M)
    assert table == [f"CM_MLPERF_ENGINE_{key}" for key in keys]


def test_exit_codes(readme: str) -> None:
    table = {int(row[0]): row[1] for row in rows(readme, "Exit codes")}
    classes = [c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, errors.CmxError)]
    expected = {c.exit_code for c in classes if c is not errors.CmxError}
    assert set(table) == expected | {0, errors.EXIT_UNFORESEEN, errors.EXIT_INTERRUPTED, errors.EXIT_PIPE_CLOSED}
    assert len(expected) == len(classes) - 1


def test_every_local_link_leads_somewhere(readme: str, repository: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", readme):
        if "://" not in target:
            assert (repository / target).exists(), target
