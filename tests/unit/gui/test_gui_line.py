"""From values to the ``cmr`` line: what it says, how a shell reads it, and what never gets into it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmx4trt.errors import RequestError
from cmx4trt.gui.form import Form, form_from_meta, read_meta
from cmx4trt.gui.line import CmrLine, Value, check_values, line_from_values, values_from_variations

ROOT = Path(__file__).resolve().parents[3]
TAGS = ("generate", "engine")


@pytest.fixture(scope="module")
def form() -> Form:
    return form_from_meta(read_meta(str(ROOT)))


def keyed(form: Form, values: dict[str, Value]) -> dict[str, Value]:
    """By names instead of keys; a variation wins over an input of its name."""
    keys = {field.name: field.key for field in reversed(form.fields())}
    return {keys[name]: value for name, value in values.items()}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, 'cmr "generate engine"'),
        ({"device": "cpu", "model": "resnet50", "scenario": "Offline"}, 'cmr "generate engine"'),
        (
            {"model": "retinanet", "precision": "fp16", "batch_size": "4"},
            'cmr "generate engine _retinanet _fp16 _batch_size.4"',
        ),
        ({"random-weights": True, "bench": True}, 'cmr "generate engine _bench _random-weights"'),
        ({"random-weights": " 7 ", "bench": False}, 'cmr "generate engine _random-weights.7"'),
        ({"scenario": "Server", "report": "no"}, 'cmr "generate engine" --scenario=Server --report=no'),
        ({"output_dir": " my engines "}, "cmr \"generate engine\" --output_dir='my engines'"),
        ({"output_dir": "it's"}, "cmr \"generate engine\" --output_dir='it'\"'\"'s'"),
        ({"workspace_size": "4194304"}, 'cmr "generate engine" --workspace_size=4194304'),
        ({"batch_size": "  ", "target": "", "calibration_method": None}, 'cmr "generate engine"'),
    ],
)
def test_lines(form: Form, values: dict[str, Value], expected: str) -> None:
    line = line_from_values(form, TAGS, keyed(form, values))
    assert line.shell() == expected
    assert shlex.split(expected) == ["cmr", *line.words()]


def test_flags_without_values() -> None:
    form = form_from_meta({"input_description": {"on": {"boolean": True, "default": "yes"}, "off": {"boolean": True}}})
    assert line_from_values(form, TAGS, keyed(form, {"on": False, "off": True})).words()[1:] == ["--on-", "--off"]
    assert line_from_values(form, TAGS, keyed(form, {"on": True, "off": False})).words()[1:] == []


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), st.text("ab '\"$`\\!;&|\n*~#é"))
def test_a_shell_reads_the_words(value: str, tag: str) -> None:
    """Also what check_values refuses: the line never does anything else than it says."""
    line = CmrLine(("generate", tag), ("x",), (("flag", f"={value}"), ("on", ""), ("off", "-")))
    assert shlex.split(line.shell()) == ["cmr", *line.words()]


@pytest.mark.parametrize("value", ['a"b', "$(touch X)", "`touch X`", "$HOME", "a\\", "a\nb", "a\rb"])
def test_what_cm_would_execute_is_refused(form: Form, value: str) -> None:
    """With the sentence of this package's script, which tests/cm compares with the real cmr."""
    with pytest.raises(RequestError, match=r"^--output_dir contains a .*; use a value without"):
        check_values(form, keyed(form, {"output_dir": value}))
    with pytest.raises(RequestError, match=r"^--batch_size contains a "):
        check_values(form, keyed(form, {"batch_size": value}))


@pytest.mark.parametrize("value", ["4 5", "4,5", "4\t5"])
def test_what_cm_would_take_apart_is_refused(form: Form, value: str) -> None:
    with pytest.raises(RequestError, match=r"_batch_size is '4.5', but CM ends a tag"):
        check_values(form, keyed(form, {"batch_size": value}))


@pytest.mark.parametrize("value", ["it's; a & b | c * ? ! # ~ {x} <y> 100% é 引擎", " padded "])
def test_what_only_looks_dangerous_is_taken(form: Form, value: str) -> None:
    check_values(form, keyed(form, {"output_dir": value}))


def test_variations_to_begin_with(form: Form) -> None:
    values = values_from_variations(form, ["retinanet", "batch_size.4", "random-weights", "bench"])
    assert line_from_values(form, TAGS, values).words() == [
        "generate engine _retinanet _batch_size.4 _bench _random-weights"
    ]
    assert values_from_variations(form, ["random-weights.7"]) == {"switch with value:random-weights": "7"}
    with pytest.raises(RequestError, match="no variation _resnet"):
        values_from_variations(form, ["resnet"])
