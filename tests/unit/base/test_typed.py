"""Records are written as JSON objects, and read by one guard that names what is not as it was written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmx4trt.base.frozen import field
from cmx4trt.base.typed import Record, WrongRecordError, absent, named, rest


class Leaf(Record):
    size: int
    note: str | None = absent()


class Tree(Record):
    title: str
    height: float = named("height in m")
    alive: bool | None = None
    best: Leaf | None = None
    leaves: Sequence[Leaf] = ()
    names: Mapping[str, int] = field(default_factory=dict)
    more: Mapping[str, Any] = rest()


TREE = Tree("oak", 3, None, None, [Leaf(1), Leaf(2, "torn")], {"a": 1}, {"planted": [1990]})
WRITTEN = {
    "title": "oak",
    "height in m": 3,
    "alive": None,
    "best": {},
    "leaves": [{"size": 1}, {"size": 2, "note": "torn"}],
    "names": {"a": 1},
    "planted": [1990],
}


def test_what_is_written_is_read_again() -> None:
    assert TREE.to_dict() == WRITTEN
    assert Tree.from_dict(json.loads(json.dumps(WRITTEN))) == TREE


def test_what_has_a_default_may_be_missing_and_the_rest_may_not() -> None:
    assert Tree.from_dict({"title": "elm", "height in m": 1.5}) == Tree("elm", 1.5)
    with pytest.raises(WrongRecordError, match=r"^height in m is missing$"):
        Tree.from_dict({"title": "elm"})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"title": 5}, "title is 5, expected text"),
        ({"height in m": "high"}, "height in m is 'high', expected a number"),
        ({"height in m": True}, "height in m is True, expected a number"),
        ({"alive": 1}, "alive is 1, expected true or false"),
        ({"best": []}, r"best is \[\], expected an object"),
        ({"best": {"size": 1.5}}, "best.size is 1.5, expected a whole number"),
        ({"leaves": {"size": 1}}, r"leaves is \{'size': 1\}, expected a list"),
        ({"leaves": [{"size": 1}, {}]}, r"leaves\[1\].size is missing"),
        ({"names": {"a": None}}, "names.a is None, expected a whole number"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, object], words: str) -> None:
    with pytest.raises(WrongRecordError, match=f"^{words}$"):
        Tree.from_dict({**WRITTEN, **changes})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*WRITTEN, "size", "a"]), inner),
    max_leaves=20,
)


@given(JSON)
def test_nothing_but_its_own_error_comes_of_anything(value: object) -> None:
    with suppress(WrongRecordError):
        assert isinstance(Tree.from_dict(value), Tree)
