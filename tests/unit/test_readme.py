"""README fits three screens; the tables it links to say what the code does: options, _cm.yaml, exports, exit codes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cmx4trt import errors
from cmx4trt.pipeline.result import BuildResult
from cmx4trt.requests.evaluation_options import CM_OPTIONS
from cmx4trt.requests.options import build_options

SCREEN = 50
"""Lines of a screen."""


@pytest.fixture(scope="session")
def readme(repository: Path) -> str:
    return (repository / "README.md").read_text()


@pytest.fixture(scope="session")
def reference(repository: Path) -> Callable[[str], str]:
    return lambda page: (repository / "docs" / "reference" / f"{page}.md").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def meta(repository: Path) -> dict:
    return yaml.safe_load((repository / "_cm.yaml").read_text())


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its two head lines; backquotes removed."""
    section = re.split(r"^#+ ", re.split(rf"^##? {heading}\n", text, flags=re.M)[1], maxsplit=1, flags=re.M)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().replace("`", "") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def test_flags(reference: Callable[[str], str], meta: dict) -> None:
    built, measured = (rows(reference("inputs"), heading) for heading in ("Build", "Verify and bench"))
    assert [row[0] for row in built] == [*(option.name for option in build_options()), "dry_run", "sweep"]
    assert [row[0] for row in measured] == [option.name for option in CM_OPTIONS]
    table = {row[0]: row[1:] for row in (*built, *measured)}
    assert set(table) == set(meta["input_mapping"]) == set(meta["input_description"])
    for option in (*build_options(), *CM_OPTIONS):
        key, _, default, meaning = table[option.name]
        assert (key, meaning) == (meta["input_mapping"][option.name], option.help)
        shown = "yes" if option.default is True else str(option.default or "")
        assert default == shown, option.name


def test_variations(reference: Callable[[str], str], meta: dict) -> None:
    table = {row[0]: row[1:] for row in rows(reference("inputs"), "Variations")}
    assert set(table) == {f"_{name.replace(',', ', _')}" for name in meta["variations"]}
    for name, body in meta["variations"].items():
        group, default, _, meaning = table[f"_{name.replace(',', ', _')}"]
        assert group == body.get("group", "")
        assert (default == "yes") == bool(body.get("default"))
        assert meaning or "," in name


def test_exports(reference: Callable[[str], str]) -> None:
    table = [row[0] for row in rows(reference("exports"), "Always")]
    keys = re.findall(r'^ +"([A-Z0-9_]+)":', inspect.getsource(BuildResult.exports), re.M)
    assert table == [f"CM_MLPERF_ENGINE_{key}" for key in keys]


def test_exit_codes(reference: Callable[[str], str]) -> None:
    table = {int(row[0]): row[1:] for row in rows(reference("exit-codes"), "Exit codes")}
    classes = [c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, errors.CmxError)]
    expected = {c.exit_code for c in classes if c is not errors.CmxError}
    assert set(table) == expected | {0, errors.EXIT_UNFORESEEN, errors.EXIT_INTERRUPTED, errors.EXIT_PIPE_CLOSED}
    assert len(expected) == len(classes) - 1


def test_three_screens(readme: str) -> None:
    assert len(readme.splitlines()) <= 3 * SCREEN


@pytest.mark.parametrize("page", ["reference/inputs", "reference/exports", "reference/exit-codes"])
def test_the_tables_are_a_click_away(readme: str, page: str) -> None:
    assert f"](docs/{page}.md)" in readme


def test_one_recipe_each(readme: str) -> None:
    """Each with a command and, where this differs from the first, what pip installs."""
    for heading, extras in {
        "No GPU": "[bench]",
        "An RTX card": "[rtx,cuda,bench,cm]",
        "An H100": "[hopper]",
        "In CI": "",
    }.items():
        recipe = readme.split(f"\n## {heading}\n")[1].split("\n## ")[0]
        assert "```bash" in recipe
        assert extras in recipe


def test_every_local_link_leads_somewhere(readme: str, repository: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", readme):
        if "://" not in target:
            assert (repository / target).exists(), target
