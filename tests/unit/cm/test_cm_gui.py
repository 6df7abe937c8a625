"""The CM edge of the page: from the inputs of ``cmr "cm gui"`` to the arguments of ``cmx4trt gui``."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from cmx4trt.cm import gui
from cmx4trt.cm.hooks import CM_FLAGS

ROOT = Path(__file__).resolve().parents[3]
META = yaml.safe_load((ROOT / "cmx4trt" / "script" / "gui" / "_cm.yaml").read_text(encoding="utf-8"))
MAPPING = META["input_mapping"]


class FakePage:
    """Stands for the page's process: takes its arguments, writes an error, ends."""

    words: list[str]
    code = 0
    error = ""

    def __init__(self, command: list[str], stdin: int) -> None:
        FakePage.words = command[3:]
        result = command[-1].removeprefix("--result=")
        if self.error:
            Path(result).write_text(json.dumps({"error": self.error}))

    def wait(self) -> int:
        return self.code


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> type[FakePage]:
    monkeypatch.setattr(FakePage, "code", 0)
    monkeypatch.setattr(FakePage, "error", "")
    monkeypatch.setattr("subprocess.Popen", FakePage)
    return FakePage


def called(flags: dict[str, Any], env: dict[str, Any] | None = None) -> dict[str, Any]:
    """What CM hands to the hook for ``cmr "cm gui" --flag=value …``."""
    const = {MAPPING[flag]: value for flag, value in flags.items() if flag in MAPPING}
    given = {**flags, "tags": "cm,gui", "cmd": [], "quiet": True, "skip_sys_utils": "yes"}
    i = {"env": {**(env or {}), "CM_GUI_APP": "app"} | (env or {}), "input": given, "meta": META}
    return gui.predeps({**i, "run_script_input": {"const": const}})


def test_flags_reach_the_page(page: type[FakePage]) -> None:
    assert called({"script": "a b", "port": "8601", "no_browser": True, "title": "it's $x"}) == {"return": 0}
    assert page.words[:-1] == ["gui", "--script=a b", "--port=8601", "--no_browser=yes", "--title=it's $x"]


def test_without_flags_it_is_the_page_of_our_script(page: type[FakePage]) -> None:
    called({})
    assert page.words[:-1] == ["gui", "--script=generate,engine,mlperf,inference,nvidia"]


def test_environment_keys_do_the_same(page: type[FakePage]) -> None:
    called({}, {"CM_GUI_PORT": "0", "CM_GUI_SCRIPT_TAGS": "get,python3", "CM_GUI_TITLE": ""})
    assert page.words[:-1] == ["gui", "--script=get,python3", "--port=0"]


def test_an_error_comes_back_as_one_sentence(page: type[FakePage], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "code", 5)
    monkeypatch.setattr(page, "error", "the web UI needs streamlit.")
    assert called({}) == {"return": 5, "error": "the web UI needs streamlit"}


@pytest.mark.parametrize(("code", "expected"), [(7, 7), (-15, 143)])
def test_a_page_that_ends_without_words(
    page: type[FakePage], monkeypatch: pytest.MonkeyPatch, code: int, expected: int
) -> None:
    monkeypatch.setattr(page, "code", code)
    answer = called({})
    assert answer["return"] == expected
    assert answer["error"].startswith("the page ended with exit status")


@pytest.mark.parametrize(
    ("flags", "env", "expected"),
    [
        ({"prot": "1"}, {}, "unknown flag --prot; did you mean 'port'"),
        ({"exp_tags": "x"}, {}, "unknown flag --exp_tags; the flags are address, folder, no_browser"),
        ({"port": True}, {}, "--port was given without a value; write --port=VALUE, with the equals sign"),
        (
            {},
            {"CM_GUI_APP": "graph"},
            "'graph' is an application of CM's own gui, which does not parse; leave out _graph",
        ),
    ],
)
def test_what_cannot_be_meant(page: type[FakePage], flags: dict[str, Any], env: dict[str, str], expected: str) -> None:
    answer = called(flags, env)
    assert answer["return"] == 2
    assert answer["error"].startswith(expected)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_ends_cm_ends_the_page_first(
    page: type[FakePage], monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """SIGHUP, of a terminal that is closed, would end CM before its temporary folder is removed."""
    ended: list[str] = []

    def wait(self: FakePage) -> int:
        handler = signal.getsignal(number)
        assert callable(handler)
        handler(number, None)
        return 130

    monkeypatch.setattr(page, "wait", wait)
    monkeypatch.setattr(page, "terminate", lambda self: ended.append("page"), raising=False)
    before = signal.getsignal(number)
    assert called({})["return"] == 130
    assert ended == ["page"]
    assert signal.getsignal(number) == before


def test_nohup_is_respected(page: type[FakePage], monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        found: list[Any] = []
        monkeypatch.setattr(page, "wait", lambda self: found.append(signal.getsignal(signal.SIGHUP)) or 0)
        assert called({}) == {"return": 0}
        assert found == [signal.SIG_IGN]
    finally:
        signal.signal(signal.SIGHUP, before)


def test_identity() -> None:
    """Of the script it takes the place of, and a tag of its own."""
    assert (META["alias"], META["uid"]) == ("gui", "605cac42514a4c69")
    assert META["tags"] == ["cm", "gui", "cm-gui", "script-gui", "cm-script-gui", "streamlit", "cmx4trt-gui"]
    assert META["sort"] == -1
    assert not {"deps", "prehook_deps", "posthook_deps", "post_deps"} & set(META)
    assert list(META["input_description"]) == list(MAPPING)
    assert not set(MAPPING) & CM_FLAGS
    assert set(META["variations"]) == {"main", "graph", "playground", "chatgpt"}


def test_the_command_line_has_the_same_flags() -> None:
    import argparse

    from cmx4trt.cli.gui import add_arguments

    parser = argparse.ArgumentParser()
    add_arguments(parser, "gui")
    assert {*MAPPING, "result", "help"} == {action.dest for action in parser._actions}
