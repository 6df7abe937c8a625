"""A comparison draws the same inputs each time, so it runs once."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from cmx4trt.base.progress import Silent
from cmx4trt.base.verdicts import FAILED, PASSED
from cmx4trt.pipeline.checked import CheckedGraph
from cmx4trt.pipeline.prepare import Prepared, prepare
from cmx4trt.pipeline.source import Source, source_of_request
from cmx4trt.requests.build import BuildRequest
from cmx4trt.sessions.null import NullSession

REQUEST = BuildRequest.from_values({"random_weights": 1})
Given = tuple[Prepared, Source]


@pytest.fixture(scope="module")
def given() -> Given:
    source = source_of_request(REQUEST)
    return prepare(REQUEST, source, Silent()), source


@pytest.fixture
def compared(stand_in: Callable[..., None]) -> list[Any]:
    """The sessions that the network compares in place of its graph; None where it compares the graph."""
    sessions: list[Any] = []

    def compare(graph: Any, original: Any, options: Any, engine: Any = None) -> Any:
        sessions.append(engine)
        return SimpleNamespace(verdict=PASSED)

    stand_in("resnet50", compare=compare)
    return sessions


def test_a_graph_is_compared_once(given: Given, compared: list[Any]) -> None:
    graph = CheckedGraph(*given, REQUEST)
    assert graph.verify() is graph.verify()
    assert compared == [None]


def test_every_engine_is_compared_once(given: Given, compared: list[Any]) -> None:
    graph, one, other = CheckedGraph(*given, REQUEST), NullSession(1), NullSession(1)
    assert graph.verify_engine(one, "a") is graph.verify_engine(one, "a")
    assert graph.verify_engine(other, "b") is not graph.verify_engine(one, "a")
    assert compared == [one, other]


def test_an_int8_engine_of_a_wrong_graph_is_not_compared(given: Given, stand_in: Callable[..., None]) -> None:
    prepared, source = given
    asked: list[Any] = []

    def compare(graph: Any, original: Any, options: Any, engine: Any = None) -> Any:
        asked.append(engine)
        return SimpleNamespace(verdict=FAILED)

    stand_in("resnet50", compare=compare)
    int8 = Prepared(prepared.graph, prepared.graph)
    graph = CheckedGraph(int8, source, REQUEST)
    assert graph.verify_engine(NullSession(1), "a") is graph.verify()
    assert asked == [None]
