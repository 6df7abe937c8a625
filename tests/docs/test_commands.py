"""Every command and Python example in README.md, CONTRIBUTING.md and docs/ runs, or a comment above it says why not.

Marks are HTML comments on the line above a block:

    <!-- not executed: REASON -->
    <!-- executed by tests/FOLDER/test_FILE.py::test_NAME -->

A page is typed from top to bottom into one folder. A ``text`` block directly below a ``bash`` block is what that block printed:
numbers may differ, ``…`` stands for anything, and a line of its own ``…`` for lines left out.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cmx4trt import __version__
from cmx4trt.errors import ResultInvalidError

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(p for p in (ROOT / "docs").rglob("*.md") if "decisions" not in p.parts),
]
EXECUTED = ("bash", "python")
SHOWN = ("", "text", "json", "yaml")
"""Languages of blocks to look at; the commands inside ``yaml`` have a test of their own."""
COMMAND = re.compile(r"^\s*(?:\$ )?(?:cmr|cm|cmx4trt|pip|python3?|bash|docker) \S", re.M)
WORDS = {
    "ENGINE": "engines/portable/resnet50/Offline/resnet50-Offline-gpu-b1-fp16.tensorrt-rtx.plan",
    "FOLDER": "images",
}
"""Words in capitals that stand for the reader's own files -> what the test gives instead."""
ATTEMPTS = 3
FRESH = ("docs/tutorial.md",)
"""Pages that start from nothing; the others find the engines that earlier pages built."""
SMALL = tuple(
    f"docs/how-to/{name}.md" for name in ("bench", "ci", "python", "report", "run", "sweep", "troubleshooting")
)
"""Pages whose commands are about something else than a network: there, ResNet-50 is a small one."""
CACHE = "calibrator.cache"
TOGETHER = [("README.md", "docs/how-to/retinanet.md")]
"""Pages that need the same engine of RetinaNet, the longest of all to build: one after the other, in one test."""


@dataclass(frozen=True)
class Block:
    """A fenced block with the comment above it and, where a ``text`` block follows it, that."""

    page: str
    line: int
    language: str
    text: str
    mark: str
    output: str = ""
    is_output: bool = False

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


FENCE = re.compile(
    r"(?:^[ ]*<!--[ ](?P<mark>[^\n]*?)[ ]-->\n(?:[ ]*\n)?)?"
    r"^(?P<indent>[ ]*)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```[ ]*$",
    re.M | re.S,
)


def blocks_of(path: Path) -> list[Block]:
    page, content = str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    found: list[Block] = []
    last_end = 0
    for match in FENCE.finditer(content):
        indent = len(match["indent"])
        text = "".join(line[indent:] for line in match["text"].splitlines(keepends=True))
        printed = bool(match["language"] == "text" and found and not content[last_end : match.start()].strip())
        if printed:
            found[-1] = replace(found[-1], output=text)
        line = content[: match.start("language")].count("\n") + 1
        found.append(Block(page, line, match["language"], text, match["mark"] or "", "", printed))
        last_end = match.end()
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_block_is_executed_or_says_why_not(block: Block) -> None:
    assert block.language in (*EXECUTED, *SHOWN), f"unknown language {block.language}"
    if block.language in ("", "text") and not block.is_output:
        assert not COMMAND.search(block.text), "a command in a block that is not bash"
    if block.language not in EXECUTED or not block.mark:
        return
    kind, _, rest = block.mark.partition(":") if block.mark.startswith("not") else block.mark.partition(" by ")
    assert kind in ("not executed", "executed"), f"unknown mark {block.mark}"
    if kind == "not executed":
        assert len(rest.split()) >= 3, "the reason is missing"
    else:
        assert names_a_test(rest), f"there is no test {rest}"


def names_a_test(text: str) -> bool:
    """Whether ``tests/….py::test_name`` is in the tree; ``.ci/run`` counts, since it is what runs them."""
    file, _, name = text.strip().partition("::")
    path = ROOT / file
    if file == ".ci/run":
        return path.exists()
    if not path.is_file():
        return False
    functions = [n.name for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef)]
    return name in functions and name.startswith("test_")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_command_hides_in_an_indented_block(page: Path) -> None:
    outside = FENCE.sub("", page.read_text(encoding="utf-8"))
    assert not re.search(r"^ {4,}(?:\$ )?(?:cmr|cmx4trt|pip|python3?|bash|docker) ", outside, re.M)


def groups() -> list[tuple[str, ...]]:
    runnable = {b.page for b in BLOCKS if b.language in EXECUTED and not b.mark}
    together = [tuple(page for page in group if page in runnable) for group in TOGETHER]
    alone = sorted(runnable - {page for group in together for page in group})
    return [*filter(None, together), *((page,) for page in alone)]


@pytest.mark.slow
@pytest.mark.parametrize("pages", groups(), ids="+".join)
def test_page_runs_from_top_to_bottom(
    request: pytest.FixtureRequest, tmp_path: Path, contradictions: Callable[[Path], list[str]], pages: tuple[str, ...]
) -> None:
    for page in pages:
        place = request.getfixturevalue("small_place" if page in SMALL else "place")
        here = place.desk(tmp_path / Path(page).stem, fresh=page in FRESH)
        blocks = [b for b in BLOCKS if b.page == page and b.language in EXECUTED and not b.mark]
        if any(CACHE in block.text for block in blocks):
            (here.folder / CACHE).symlink_to(request.getfixturevalue("calibration_cache"))
        if any(re.search(r"\bENGINE\b", block.text) for block in blocks):
            here.bash("cmx4trt build --random_weights=0")
        for block in blocks:
            done = run_block(here, block)
            assert done.returncode == 0, f"{block}\n{block.text}\n{done.stdout}"
            assert shows(block.output, done.stdout), f"{block} printed\n{done.stdout}\nand not\n{block.output}"
        written = [*here.folder.glob("engines/**/*.tensorrt-rtx.json"), *here.folder.glob("**/cmx4trt_result.json")]
        assert [sentence for file in written for sentence in contradictions(file)] == []


def run_block(here: Any, block: Block) -> Any:
    """Its outcome. Whether LoadGen finds a run long enough depends on what else this machine does: then once more."""
    for _ in range(ATTEMPTS):
        done = here.bash(with_files(block.text)) if block.language == "bash" else here.python(block.text)
        if done.returncode != ResultInvalidError.exit_code:
            break
    return done


def with_files(text: str) -> str:
    """A block with files in place of the words that stand for the reader's."""
    for word, file in WORDS.items():
        text = re.sub(rf"\b{word}\b", file, text)
    return text


NUMBER = re.compile(r"\b[0-9a-f]{64}\b|\d[\d.]*(?:e[+-]?\d+)?")


def shows(shown: str, printed: str) -> bool:
    """Whether ``shown`` is what was printed, but for numbers, runs of spaces, and what ``…`` stands for."""
    lines = [line.strip() for line in shown.strip().splitlines()]
    pattern = "".join(r"(?:.*\n)*?" if line == "…" else rf"[ ]*{_pattern_of(line)}[ ]*\n" for line in lines)
    return re.search(f"^{pattern}", printed + "\n", re.M) is not None


def _pattern_of(line: str) -> str:
    words = []
    for word in line.split():
        parts = [re.escape(part) for part in NUMBER.sub("\0", word).replace("…", "\1").split("\0")]
        words.append(r"[\da-f.e+-]+".join(parts).replace("\1", ".*").replace(r"\…", ".*"))
    return "[ ]+".join(words)


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a 1.5 s", "a 2.75 s\n", True),
        ("a  1 b", "x\n  a 22      b\ny\n", True),
        ("a\n…\nd", "a\nb\nc\nd\n", True),
        ("a\nd", "a\nb\nd\n", False),
        ("file …/engines/x.plan", "file /some/where/engines/x.plan\n", True),
        ("verified passed", "verified failed\n", False),
        ("sha " + "0" * 64, "sha " + "af" * 32 + "\n", True),
    ],
)
def test_what_counts_as_the_same_output(shown: str, printed: str, same: bool) -> None:
    assert shows(shown, printed) is same


CI_EXAMPLES = [b for b in BLOCKS if b.language == "yaml" and b.page.endswith("/ci.md")]


def ci_commands(block: Block) -> list[str]:
    """What a workflow of GitHub or GitLab would give to the shell."""
    steps: list[str] = []
    document = yaml.safe_load(block.text)
    for job in [*document.get("jobs", {}).values(), *(j for j in document.values() if isinstance(j, dict))]:
        steps += [step["run"] for step in job.get("steps", []) if "run" in step]
        steps += job.get("script", [])
    return steps


@pytest.mark.slow
@pytest.mark.parametrize("block", CI_EXAMPLES, ids=str)
def test_commands_of_the_ci_examples(small_place: Any, tmp_path: Path, block: Block) -> None:
    """Twice in the same folder, as with a cache; installing is what this environment has done already."""
    commands = "\n".join(command for command in ci_commands(block) if "pip install" not in command)
    assert "cmx4trt build" in commands
    here = small_place.desk(tmp_path / "desk", fresh=True)
    first = here.bash(commands)
    here.bash("cp -r engines restored && rm -r engines && mv restored engines")
    second = here.bash(commands.partition("cmx4trt verify")[0])
    assert first.returncode == second.returncode == 0, first.stdout + second.stdout
    assert "\nreused\n" in second.stdout


@pytest.mark.skipif(importlib.util.find_spec("hatchling") is None, reason="hatchling is not installed")
def test_install_lines_of_the_ci_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_of_page: Callable[[str, str], str]
) -> None:
    """With the wheel that the page makes of a clone, pip takes what the files name."""
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")  # pip's spelling of yes
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    making = block_of_page("docs/how-to/ci.md", "tests/docs/test_commands.py::test_install_lines_of_the_ci_examples")
    subprocess.run(
        ["bash", "-euc", making.replace(" .\n", f" {ROOT}\n")], cwd=tmp_path, check=True, capture_output=True
    )
    for block in CI_EXAMPLES:
        [named] = re.findall(r"CMX4TRT: ([^\s}]+)", block.text)
        [line] = [command for command in ci_commands(block) if "pip install" in command]
        tried = line.replace("pip install", "pip install --dry-run --no-deps --ignore-installed")
        done = subprocess.run(
            ["bash", "-euc", tried],
            cwd=tmp_path,
            env={**os.environ, "CMX4TRT": named},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert f"Would install cmx4trt-{__version__}" in done.stdout
