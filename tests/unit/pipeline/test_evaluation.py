"""The answer of an evaluation, as JSON and for the next script."""

from __future__ import annotations

import json
from dataclasses import replace

from cmx4trt.backends.facts import Check, Measurement
from cmx4trt.base.verdicts import PASSED, SKIPPED
from cmx4trt.errors import ResultInvalidError
from cmx4trt.pipeline.evaluation import Comparison, Evaluation
from cmx4trt.store.results import COMPLETE, BenchResult

RESULT = BenchResult("the engine itself", COMPLETE, "Offline", "performance", "/logs", valid=False)
EVALUATION = Evaluation(
    "e.plan",
    "the engine itself, by X on Y",
    True,
    "X on Y",
    Comparison(PASSED, "relative L2 error 1e-4"),
    (Check("equals its specification", True, "bit for bit"),),
    Measurement("Y", 8, 1.5),
    RESULT,
    ResultInvalidError("LoadGen calls the run INVALID"),
)


def test_all_of_it_is_json() -> None:
    written = json.loads(json.dumps(EVALUATION.to_dict()))
    assert written["comparison"] == {"verdict": "passed", "sentence": "relative L2 error 1e-4"}
    assert written["checks"][0]["title"] == "equals its specification"
    assert written["measured"]["batch"] == 8
    assert BenchResult.from_dict(written["result"]) == RESULT
    assert written["error"] == {"exit_code": 11, "error": "LoadGen calls the run INVALID"}


def test_what_was_not_found_is_null() -> None:
    written = Evaluation("e.plan", "the graph", False, "cpu").to_dict()
    assert [name for name, value in written.items() if value is None] == ["comparison", "measured", "result", "error"]
    assert written["checks"] == []


def test_the_next_script_gets_words() -> None:
    assert EVALUATION.exports["AGREES"] == "yes"
    assert (EVALUATION.exports["EXECUTED"], EVALUATION.exports["VALID"]) == ("engine", "no")
    unknown = replace(EVALUATION, comparison=Comparison(SKIPPED, "noise"), ran_engine=False, result=None)
    assert (unknown.exports["AGREES"], unknown.exports["EXECUTED"]) == ("unknown", "graph")
