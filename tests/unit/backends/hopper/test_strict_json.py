"""Untrusted JSON: typed, bounded, nothing missing or unknown, each problem one sentence."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cmx4trt.backends.hopper.strict_json import fields, integer, parse

WORD = re.compile(r"[a-z]+")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"a": 1, "a": 2}', "it has a key twice"),
        (b"[NaN]", "it has the number NaN"),
        (b"[" * 100_000, "nested too deeply"),
        (b"\xff\xfe{}", "it is not UTF-8"),
        (b"{", "Expecting"),
    ],
)
def test_what_is_not_plain_json(text: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse(text)


def read(value: Any) -> tuple[Any, ...]:
    with fields(value, "plan") as plan:
        return (
            plan.integer("count", 0, 9),
            plan.number("scale"),
            plan.text("name", WORD),
            plan.items("sizes", lambda item, path: integer(item, path, 1, 4), 1, 2),
            plan.mapping("of", WORD, lambda item, path: integer(item, path, 0, 1), 2),
        )


GOOD: dict[str, Any] = {"count": 3, "scale": 0.5, "name": "stem", "sizes": [1, 4], "of": {"a": 1}}


def test_fields_are_read_as_they_are_declared() -> None:
    assert read(GOOD) == (3, 0.5, "stem", (1, 4), {"a": 1})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"count": 10}, "plan.count is 10, expected an integer from 0 to 9"),
        ({"count": True}, "plan.count is True, expected an integer"),
        ({"count": 1 << 200}, "plan.count is a number of more than 128 bits"),
        ({"scale": 1}, "plan.scale is 1, expected a finite number with a decimal point"),
        ({"name": "Stem"}, r"plan.name is 'Stem', expected text like \[a-z\]\+"),
        ({"sizes": []}, "plan.sizes is a list of 0, expected a list of 1 to 2"),
        ({"sizes": [1, 9]}, r"plan.sizes\[1\] is 9, expected an integer from 1 to 4"),
        ({"of": {"A": 1}}, "a key of plan.of is 'A'"),
        ({"of": {"a": 2}}, "plan.of.a is 2"),
        ({"more": 1}, "plan has an unknown field 'more'"),
    ],
)
def test_every_problem_is_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read({**GOOD, **changes})


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="plan lacks scale"):
        read({name: value for name, value in GOOD.items() if name != "scale"})
    with pytest.raises(ValueError, match="plan is a list of 0, expected an object"):
        read([])
