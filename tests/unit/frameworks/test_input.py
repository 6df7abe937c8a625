"""Flags, words and values that CM would drop, execute or alter."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmx4trt.cm.hooks import CM
from cmx4trt.errors import RequestError
from cmx4trt.frameworks.input import check_exports, check_flags, check_value
from cmx4trt.requests.options import build_options

MAPPING = {option.name: f"KEY_{option.name.upper()}" for option in build_options()} | {"dry_run": "CMX4TRT_DRY_RUN"}
VARIATIONS = ("cpu", "cuda", "int8")


def test_flags_of_ours_and_of_cm_pass() -> None:
    check_flags(
        CM, {"batch_size": "4", "verify": True, "dry_run": True, "quiet": True, "cmd": ["x"]}, MAPPING, VARIATIONS
    )


@pytest.mark.parametrize("value", [True, False])
def test_flag_without_value(value: bool) -> None:
    with pytest.raises(RequestError, match=r"--scenario was given without a value; write --scenario=VALUE"):
        check_flags(CM, {"scenario": value}, MAPPING, VARIATIONS)


@pytest.mark.parametrize(
    ("words", "lost"),
    [(["Server"], "Server"), (["_a,_b", "Server"], "Server"), (["_a _b"], None), ([], None)],
)
def test_words(words: list[str], lost: str | None) -> None:
    """CM takes a first word with a space or comma as further tags, and drops every other word."""
    if lost is None:
        check_flags(CM, {"artifacts": words}, MAPPING, VARIATIONS)
    else:
        with pytest.raises(RequestError, match=f"the word '{lost}' stands alone"):
            check_flags(CM, {"artifacts": words}, MAPPING, VARIATIONS)


@pytest.mark.parametrize("flag", ["output", "path", "input", "version"])
def test_flags_of_cm_without_effect(flag: str) -> None:
    check_flags(CM, {flag: ""}, MAPPING, VARIATIONS)
    with pytest.raises(RequestError, match=f"--{flag} is a flag of CM that has no effect here"):
        check_flags(CM, {flag: "x"}, MAPPING, VARIATIONS)


def test_far_from_every_flag() -> None:
    with pytest.raises(RequestError, match="unknown flag --zzz; the flags are batch_size, builder"):
        check_flags(CM, {"zzz": "1"}, MAPPING, VARIATIONS)


SHELL_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@given(SHELL_TEXT)
@settings(max_examples=40, deadline=None)
def test_accepted_values_survive_the_shell(text: str) -> None:
    """What passes is exactly what bash makes of CM's ``export KEY="VALUE"``."""
    try:
        check_value("CM", "value", text)
    except RequestError:
        return
    script = f'export KEY="{text}"\nprintf %s "$KEY"\n'
    done = subprocess.run(["bash"], input=script.encode(), capture_output=True, check=True)
    assert done.stdout.decode() == text


@pytest.mark.parametrize(
    "value", ['a"', "$x", "`x`", "a\\", "a\nb", "a\rb", "\x1b[31m", ["a", "$b"], {"k": {"l": "`"}}]
)
def test_unsafe_values(value: Any) -> None:
    with pytest.raises(RequestError, match="which the shell that CM starts would execute or alter"):
        check_value("CM", "value", value)


@pytest.mark.parametrize("value", ["a b;c'd&e|f*?!#~<>{}[]()", "é引擎", "a\tb", 1, None, True, ["a"], {"k": "v"}])
def test_safe_values(value: Any) -> None:
    check_value("CM", "value", value)


def test_escapes_of_other_scripts() -> None:
    """CM's own scripts export values such as ``\\"input_tensor:0\\": …``; fine from Python, refused when typed."""
    env = {"CM_ML_MODEL_INPUT_SHAPES": '\\"input\\": (1, 3)'}
    check_exports(CM, {}, env, {}, MAPPING, ())
    with pytest.raises(RequestError, match="a backslash"):
        check_exports(CM, {"cmd": ["run"]}, env, {}, MAPPING, ())
    with pytest.raises(RequestError, match="--output_dir contains a backslash"):
        check_exports(CM, {}, {MAPPING["output_dir"]: '\\"x\\"'}, {}, MAPPING, ())


def test_as_a_dependency_only_own_keys_are_checked() -> None:
    check_exports(CM, {"recursion": True}, {"CM_RUN_CMD": "echo $HOME", "+ CFLAGS": ["$X"]}, {}, MAPPING, ())
    with pytest.raises(RequestError, match="--model contains"):
        check_exports(CM, {"recursion": True}, {MAPPING["model"]: "$HOME/x"}, {}, MAPPING, ())


@pytest.mark.parametrize("key", ["+PATH", "+ CFLAGS", "+,LIST", "A_1"])
def test_names_of_cm(key: str) -> None:
    check_exports(CM, {}, {key: "x"}, {}, MAPPING, ())


@pytest.mark.parametrize("key", ["A B", "1A", "", "A;B", "A$(x)", "A-B", '+"A', "+$A", "Ä"])
def test_names_that_are_not(key: str) -> None:
    with pytest.raises(RequestError, match="is not the name of an environment key"):
        check_exports(CM, {}, {key: "x"}, {}, MAPPING, ())


def test_constants_are_checked_too() -> None:
    with pytest.raises(RequestError, match="the environment key K contains"):
        check_exports(CM, {}, {}, {"K": "$(x)"}, MAPPING, ())


@pytest.mark.parametrize("flag", ["ad", "adr", "add_deps", "add_deps_recursive"])
def test_dependencies_are_checked(flag: str) -> None:
    with pytest.raises(RequestError, match=f"--{flag} contains a backtick"):
        check_exports(CM, {flag: {"loadgen": {"tags": "_`x`"}}}, {}, {}, MAPPING, ())
    with pytest.raises(RequestError, match="is not the name of a dependency"):
        check_exports(CM, {flag: {"loadgen": {"env": {"A;B": "x"}}}}, {}, {}, MAPPING, ())
