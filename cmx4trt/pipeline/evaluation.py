"""What ``verify_engine`` and ``bench_engine`` give back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cmx4trt.backends.facts import Check, Measurement
from cmx4trt.base.typed import Record
from cmx4trt.base.verdicts import FAILED, PASSED, SKIPPED
from cmx4trt.errors import CmxError
from cmx4trt.store.results import BenchResult

_AGREES = {PASSED: "yes", FAILED: "no", SKIPPED: "unknown"}


class Comparison(Record):
    """What a comparison with the original model found: a verdict, and what was measured in words."""

    verdict: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The answer of ``verify_engine`` or ``bench_engine``. ``error``: set on failure; the rest is what was found all the same.

    ``executed``: what really ran, in words; ``ran_engine``: whether that was the engine itself; ``device``: on what.
    ``comparison``, ``checks``, ``measured``: with the original model, by the backend's own means, of the speed on the local GPU.
    ``result``: of LoadGen, where it ran.
    """

    engine: str
    executed: str
    ran_engine: bool
    device: str
    comparison: Comparison | None = None
    checks: tuple[Check, ...] = ()
    measured: Measurement | None = None
    result: BenchResult | None = None
    error: CmxError | None = None

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON types; an error as its exit code and its sentence."""
        error = None if self.error is None else {"exit_code": self.error.exit_code, "error": str(self.error)}
        return {
            "engine": self.engine,
            "executed": self.executed,
            "ran_engine": self.ran_engine,
            "device": self.device,
            "comparison": None if self.comparison is None else self.comparison.to_dict(),
            "checks": [check.to_dict() for check in self.checks],
            "measured": None if self.measured is None else self.measured.to_dict(),
            "result": None if self.result is None else self.result.to_dict(),
            "error": error,
        }

    @property
    def exports(self) -> dict[str, str]:
        """The outcome for the next script: CM exports each as CM_MLPERF_RESULT_<key>."""
        exports = {"EXECUTED": "engine" if self.ran_engine else "graph", "DEVICE": self.device}
        if self.comparison is not None:
            exports["AGREES"] = _AGREES[self.comparison.verdict]
        return {**exports, **(self.result.exports() if self.result is not None else {})}
