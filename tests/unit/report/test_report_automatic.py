"""The report that a build leaves: written, kept, replaced, and never the reason to lose an engine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cmx4trt.base.progress import Silent
from cmx4trt.cli.rows import rows_of_build
from cmx4trt.pipeline.build import build_with_graph
from cmx4trt.pipeline.checked import CheckedGraph, checked_graph
from cmx4trt.pipeline.result import BuildResult
from cmx4trt.pipeline.source import source_of_request
from cmx4trt.report.automatic import refresh_report
from cmx4trt.report.writing import is_report
from cmx4trt.requests.build import BuildRequest

Build = Callable[..., BuildResult]


class Notes:
    """A Progress that remembers stages and notes."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.notes: list[str] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.stages.append(name)
        yield

    def step(self, name: str, done: int, total: int) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def graph() -> CheckedGraph:
    """A graph to build, whatever the seed is said to be."""
    request = BuildRequest.from_values({"random_weights": 1})
    return checked_graph(request, source_of_request(request), Silent(), None)


@pytest.fixture
def build(small_builder: object, graph: CheckedGraph, tmp_path: Path) -> Build:
    def build(progress: Any = None, **values: object) -> BuildResult:
        given = {"random_weights": 1, "verify": False, "output_dir": str(tmp_path / "out"), **values}
        return build_with_graph(BuildRequest.from_values(given), progress, make_graph=lambda *_: graph)[0]

    return build


def test_a_build_leaves_a_report(build: Build, page_of: Callable[[Path], Any]) -> None:
    progress = Notes()
    result = build(progress)
    assert result.report == f"{result.engine.removesuffix('.plan')}.report.html"
    assert is_report(result.report)
    assert result.manifest.engine.sha256 in page_of(Path(result.report)).text
    assert ("report", result.report) in rows_of_build(result)
    assert result.exports()["REPORT_WITH_PATH"] == result.report
    assert progress.stages[-1] == "report"
    assert progress.notes == []


def test_switched_off(build: Build) -> None:
    result = build(report=False)
    assert result.report == result.exports()["REPORT_WITH_PATH"] == ""
    assert "report" not in dict(rows_of_build(result))
    assert [name for name in os.listdir(Path(result.engine).parent) if name.endswith(".html")] == []


def test_the_option_does_not_make_another_engine(build: Build) -> None:
    assert not build(report=False).reused
    again = build(report=True)
    assert again.reused
    assert is_report(again.report), "missing beside a reused engine, so written"


def test_a_reused_engine_keeps_its_report(build: Build) -> None:
    path = build().report
    before = os.stat(path)
    progress = Notes()
    assert build(progress).report == path
    assert os.stat(path).st_ino == before.st_ino
    assert "report" not in progress.stages


NEWER = "1.2.4"
"""A version of the library whose engine of the same request takes the place of the older one."""


def test_another_engine_gets_another_report(build: Build, page_of: Callable[[Path], Any], small_builder: Any) -> None:
    first = build()
    report = Path(first.report)
    report.write_text(report.read_text().replace("</main>", "of the older engine</main>"))
    small_builder.version_text = NEWER
    second = build()
    assert (second.report, second.reused) == (first.report, False)
    assert "of the older engine" not in page_of(report).text
    assert second.manifest.engine.sha256 in page_of(report).text


def test_no_report_tells_of_an_engine_that_is_gone(build: Build, small_builder: Any) -> None:
    path = build().report
    small_builder.version_text = NEWER
    assert build(report=False).report == ""
    assert not os.path.exists(path)


def test_a_file_of_somebody_elses_stays(build: Build, small_builder: Any) -> None:
    path = Path(build(report=False).engine.removesuffix(".plan") + ".report.html")
    path.write_text("my notes")
    progress = Notes()
    assert build(progress).report == ""
    assert path.read_text() == "my notes"
    assert len(progress.notes) == 1
    assert "the file there is not a cmx4trt report" in progress.notes[0]
    small_builder.version_text = NEWER
    assert build(report=False).report == ""
    assert path.read_text() == "my notes"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (RuntimeError("numpy.core is broken"), "numpy.core is broken"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_an_engine_is_never_lost_because_of_a_picture(
    build: Build, stand_in: Callable[..., None], error: Exception, words: str
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    stand_in("tensorrt-rtx", sections=fail)
    progress = Notes()
    result = build(progress)
    assert not result.reused
    assert Path(result.engine).exists()
    assert Path(result.manifest_path).exists()
    assert result.report == ""
    (note,) = progress.notes
    assert note.startswith("the engine has been published, but its report could not be written (")
    assert words in note


def test_without_matplotlib_there_is_a_page_and_a_note(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    progress = Notes()
    result = build(progress)
    assert is_report(result.report)
    assert len(progress.notes) == 1
    assert "plots need matplotlib" in progress.notes[0]


def test_a_full_disk(build: Build, tmpfs: Callable[..., Path]) -> None:
    folder = tmpfs("size=128k")
    result = build(output_dir=str(folder))
    assert result.report
    os.unlink(result.report)
    (folder / "filler").write_bytes(b"x" * (os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize - 4096))
    progress = Notes()
    full = build(progress, output_dir=str(folder))
    assert full.reused
    assert full.report == ""
    assert "No space left on device" in progress.notes[0]
    assert not [name for name in os.listdir(Path(full.engine).parent) if name.endswith(".partial")]


def test_an_interruption_says_that_the_engine_is_there(build: Build, stand_in: Callable[..., None]) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    stand_in("tensorrt-rtx", sections=interrupt)
    with pytest.raises(KeyboardInterrupt, match="the engine has been published, its report has not been written"):
        build()


def test_results_that_came_later_are_shown(published: Any, page_of: Callable[[Path], Any]) -> None:
    refresh_report(str(published.engine), Silent())
    assert not published.page.exists(), "there was none to refresh"
    published.page.write_text('<meta name="generator" content="cmx4trt report">')
    published.add_run("Server")
    refresh_report(str(published.engine), Silent())
    assert "Server, performance" in page_of(published.page).text
