"""A LoadGen result: in its file, and for the next script."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cmx4trt.store.results import COMPLETE, Accuracy, BenchResult, Departure, Metric, Subject

RESULT = BenchResult(
    "the engine itself, by TensorRT on NVIDIA L4",
    COMPLETE,
    "Server",
    "performance",
    "/logs",
    Subject("e.plan", "ResNet-50 v1.5", "fp16", "ab", 8),
    valid=True,
    metric=Metric("scheduled_samples_per_second", 100.5, "samples/s"),
    latency_ns={"50.00": 1000, "99.90": 2500},
    departures={"min_duration_ms": Departure(10000, 600000)},
    accuracy=Accuracy("top-1", 76.1, 75.7, 50000, "passed", "a note"),
)


def test_what_is_written_is_read_back() -> None:
    assert BenchResult.from_json(RESULT.to_json()) == RESULT
    graph = replace(RESULT, executed="ONNX Runtime on the engine's graph", metric=None, valid=None)
    assert BenchResult.from_json(graph.to_json()) == graph
    assert (RESULT.ran_engine, graph.ran_engine) == (True, False)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": "another/1"}', RESULT.to_json().replace("100.5", '"fast"')]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a result of schema|is 'fast', expected a number|Expecting value"):
        BenchResult.from_json(text)


def test_the_next_script_gets_words() -> None:
    exports = RESULT.exports()
    assert exports["FILE_WITH_PATH"] == "/logs/cmx4trt_result.json"
    assert (exports["VALID"], exports["METRIC"], exports["VALUE"]) == ("yes", "scheduled_samples_per_second", "100.5")
    assert (exports["P50_LATENCY_NS"], exports["P99_9_LATENCY_NS"]) == ("1000", "2500")
    accuracy = {name: value for name, value in exports.items() if name.startswith("ACCURACY_")}
    assert accuracy == {
        "ACCURACY_METRIC": "top-1",
        "ACCURACY_VALUE": "76.1",
        "ACCURACY_TARGET": "75.7",
        "ACCURACY_IMAGES": "50000",
        "ACCURACY_VERDICT": "passed",
    }
    assert "VALID" not in replace(RESULT, valid=None).exports()
