"""An engine on a device: judged, checked by its backend, then measured; nothing is measured of one that fails."""

from __future__ import annotations

from typing import Any

import pytest

from cmx4trt.backends.base import BuiltEngine
from cmx4trt.backends.facts import Check, Measurement
from cmx4trt.backends.null import NullBackend
from cmx4trt.base.verdicts import FAILED, PASSED
from cmx4trt.errors import VerificationError
from cmx4trt.requests.build import BuildRequest
from cmx4trt.store.manifest import ExecutionRecord
from cmx4trt.verify.engine import execute_engine

ENGINE = BuiltEngine(b'{"batch_size": 4, "copy_streams": 1}')


class Judged:
    def __init__(self, verdict: str) -> None:
        self.verdict = verdict

    def to_dict(self) -> dict[str, Any]:
        return {"verdict": self.verdict}

    def sentence(self) -> str:
        return "a difference of 3"


class Measuring(NullBackend):
    def __init__(self, passed: bool = True) -> None:
        self.passed = passed
        self.measured = 0

    def check_engine(self, engine: Any, graph: Any, session: Any) -> tuple[Check, ...]:
        return (Check("bits", self.passed, "7 of 8 bits are right"),)

    def measure(self, session: Any) -> Measurement:
        self.measured += 1
        return Measurement("NVIDIA H100", session.max_batch, 0.5, {"watts": 3.0})


class Graph:
    class spec:  # noqa: N801
        title = "ResNet-50 v1.5"


def execute(backend: Measuring, verdict: str = PASSED) -> ExecutionRecord:
    request = BuildRequest.from_values({"random_weights": 0})
    return execute_engine(backend, ENGINE, Graph, request, lambda session: Judged(verdict))  # type: ignore[arg-type, return-value]


def test_what_was_measured_is_recorded() -> None:
    record = execute(Measuring()).to_dict()
    assert record["engine_executed_on_a_device"] == "yes"
    assert record["measured"] == {"gpu": "NVIDIA H100", "batch": 4, "milliseconds": 0.5, "watts": 3.0}
    assert record["backend_checks"][0]["passed"] is True


def test_a_backend_that_does_not_measure_leaves_no_record() -> None:
    backend = Measuring()
    backend.measure = lambda session: None  # type: ignore[assignment, method-assign, return-value]
    assert "measured" not in execute(backend).to_dict()


@pytest.mark.parametrize(("passed", "verdict"), [(False, PASSED), (True, FAILED)])
def test_an_engine_that_fails_is_not_measured(passed: bool, verdict: str) -> None:
    backend = Measuring(passed)
    with pytest.raises(VerificationError, match="no engine was published"):
        execute(backend, verdict)
    assert backend.measured == 0
