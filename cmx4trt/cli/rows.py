"""The results of builds and evaluations as rows for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmx4trt.base.verdicts import FAILED, PASSED, SKIPPED

if TYPE_CHECKING:
    from cmx4trt.pipeline.evaluation import Evaluation
    from cmx4trt.pipeline.result import BuildResult, Plan

Rows = list[tuple[str, str]]
_AGREES = {PASSED: "yes", FAILED: "no", SKIPPED: "not judged: inconclusive on these images"}


def rows_of_build(result: BuildResult) -> Rows:
    """Where the files are, and what was verified."""
    engine, execution = result.manifest.engine, result.manifest.execution
    return [
        ("engine", result.engine),
        ("manifest", result.manifest_path),
        *([("report", result.report)] if result.report else []),
        ("size", f"{engine.bytes / 1e6:.1f} MB"),
        ("sha256", engine.sha256),
        ("graph verified", result.manifest.verification.verdict),
        ("engine run on a device", execution.executed),
        *([("speed", execution.measured.sentence())] if execution.measured else []),
    ]


def rows_of_plan(plan: Plan) -> Rows:
    """The planned engine."""
    return [("engine", plan.engine), ("builder", plan.builder), ("source", plan.source)]


def rows_of_evaluation(evaluation: Evaluation) -> Rows:
    """The results; the first row says what ran."""
    rows = [("executed", evaluation.executed), ("engine", evaluation.engine)]
    if (found := evaluation.comparison) is not None:
        rows += [("agrees with the original model", _AGREES[found.verdict]), ("measured", found.sentence)]
    rows += [(check.title, f"{'yes' if check.passed else 'no'}: {check.sentence}") for check in evaluation.checks]
    if evaluation.measured is not None:
        rows.append(("speed", evaluation.measured.sentence()))
    if evaluation.result is not None:
        from cmx4trt.bench.text import rows_of_result

        rows += [row for row in rows_of_result(evaluation.result) if row not in rows]
    return rows
