"""What ``verify_engine`` and ``bench_engine`` give back."""

from __future__ import annotations

from dataclasses import dataclass

from cmx4trt.backends.facts import Check, Measurement
from cmx4trt.base.verdicts import FAILED, PASSED, SKIPPED
from cmx4trt.errors import CmxError
from cmx4trt.store.results import BenchResult

_AGREES = {PASSED: "yes", FAILED: "no", SKIPPED: "unknown"}


@dataclass(frozen=True, slots=True)
class Comparison:
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

    @property
    def exports(self) -> dict[str, str]:
        """The outcome for the next script: CM exports each as CM_MLPERF_RESULT_<key>."""
        exports = {"EXECUTED": "engine" if self.ran_engine else "graph", "DEVICE": self.device}
        if self.comparison is not None:
            exports["AGREES"] = _AGREES[self.comparison.verdict]
        return {**exports, **(self.result.exports() if self.result is not None else {})}
