"""What the page shows of runs and engines, without a browser: Streamlit's own test of a page."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from manifests import publish_manifest

from cmx4trt.gui.runner import Outcome, Stage, Step
from cmx4trt.store.manifest import Manifest

if importlib.util.find_spec("streamlit") is None:
    pytest.skip("Streamlit is not installed (pip install 'cmx4trt[gui]')", allow_module_level=True)


def page_of(show, arguments):  # type: ignore[no-untyped-def]
    """Streamlit takes this text for the page's file, where the names above are not known."""
    show(*arguments)


def shown(show: Callable[..., None], *arguments: object) -> Any:
    from streamlit.testing.v1 import AppTest

    return AppTest.from_function(page_of, args=(show, arguments), default_timeout=30).run()


def engines(folder: Path) -> Any:
    """The page's list of engines, each with everything that is shown of it."""
    from cmx4trt.gui.page_results import show_engines

    page = shown(show_engines, str(folder), str(folder))
    for toggle in page.toggle:
        toggle.set_value(True)
    return page.run()


ODD: dict[str, dict[str, Any]] = {
    "half a character": {"network": {"title": "\ud800"}},
    "a size beyond every disk": {"engine": {"bytes": 10**39}},
    "lists for words": {"request": {"precision": [1], "batch_size": {}, "target": None, "network": []}, "network": {}},
    "an odd digest": {"engine": {"bytes": ["x"], "sha256": {}}},
    "odd verdicts": {"verification": {"verdict": []}, "execution": {"engine_executed_on_a_device": {}}},
    "line breaks": {"network": {"title": "two\n| rows | of |"}, "created": "\n\n# now"},
    "no numbers": {"stages": {"build": float("nan")}},
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_manifest_costs_no_other_engine(tmp_path: Path, name: str) -> None:
    publish_manifest(tmp_path, "good")
    publish_manifest(tmp_path, "odd", **ODD[name])
    page = engines(tmp_path)
    assert list(page.exception) == []
    titles = [element.value for element in page.markdown]
    assert "**ResNet\\-50 v1\\.5 · FP16 · batch 4**" in titles
    assert len(page.toggle) + len(page.error) >= 2, "the odd one is shown, or a sentence about it"


def publish_nested(folder: Path, depth: int) -> None:
    publish_manifest(folder, f"deep{depth}", graph={"notes": "HERE"})
    path = folder / f"deep{depth}.json"
    path.write_text(path.read_text().replace('"HERE"', "[" * depth + "]" * depth))


def test_what_cannot_be_shown_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_deep(manifest: Manifest) -> str:
        raise RecursionError

    publish_manifest(tmp_path, "good")
    monkeypatch.setattr(Manifest, "to_json", too_deep)
    (error,) = engines(tmp_path).error
    assert error.value.startswith("The manifest ")
    assert "cannot be shown (RecursionError" in error.value


def test_deep_nesting_costs_no_other_engine(tmp_path: Path) -> None:
    publish_manifest(tmp_path, "good")
    for depth in (100, 300, 500, 700, 900):
        publish_nested(tmp_path, depth)
    page = engines(tmp_path)
    assert list(page.exception) == []
    assert "good.plan" in " ".join(element.value.replace("\\", "") for element in page.markdown)


def test_a_line_break_makes_no_row(tmp_path: Path) -> None:
    publish_manifest(tmp_path, "good", network={"title": "two\n| bogus | row |"})
    (table,) = [element.value for element in engines(tmp_path).markdown if element.value.startswith("| | |")]
    lines = table.splitlines()
    assert all(line.startswith("| ") or line == "|---|---|" for line in lines)
    assert sum("bogus" in line for line in lines) == 1
    assert not any(line.startswith("| bogus") for line in lines)


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    from cmx4trt.gui.page_results import show_engines

    page = shown(show_engines, str(tmp_path), str(tmp_path))
    page.text_input[0].set_value("a\0b").run()
    assert list(page.exception) == []
    assert "NUL" in page.error[0].value


@dataclass
class FakeRun:
    """As much of a run as its page asks for."""

    id: str = "id"
    seconds: float = 12.3
    stopping: bool = False
    outcome: Outcome | None = None

    def stages(self) -> list[Stage]:
        return [Stage("prepare", 1.25), Stage("build")]

    def seconds_of(self, stage: Stage) -> float:
        return 47.4

    @property
    def step(self) -> Step | None:
        return Step("Timing Runner", 3, 12)

    def log(self) -> str:
        return "a line"

    def stop(self) -> None:
        self.stopping = True


def progress(run: FakeRun) -> Any:
    from cmx4trt.gui.page_results import _show_progress

    return shown(_show_progress, run)


def test_a_build_shows_life() -> None:
    """How long each stage has been running, and how far its steps are."""
    page = progress(FakeRun())
    assert ":blue-badge[build … 47 s]" in [markdown.value for markdown in page.markdown]
    (bar,) = page.get("progress")
    assert (bar.value, bar.text) == (25, "Timing Runner: 3 of 12")


def test_what_runs_is_not_complete() -> None:
    (status,) = progress(FakeRun()).status
    assert (status.label, status.state) == ("Running for 12 s", "running")


@pytest.mark.parametrize(
    ("code", "label", "state"), [(0, "Finished in 12 s", "complete"), (2, "Ended after 12 s", "error")]
)
def test_how_it_ended(code: int, label: str, state: str) -> None:
    page = progress(FakeRun(outcome=Outcome(code, "", {}, False)))
    assert [(status.label, status.state) for status in page.status] == [(label, state)]
    assert len(page.button) == 0


def test_stop_says_that_it_was_heard() -> None:
    run = FakeRun()
    page = progress(run)
    (button,) = page.button
    assert (button.label, button.disabled) == ("Stop", False)
    button.click().run()
    assert run.stopping
    (button,) = page.button
    assert (button.label, button.disabled) == ("Stopping…", True)
    assert page.status[0].label == "Stopping after 12 s"
