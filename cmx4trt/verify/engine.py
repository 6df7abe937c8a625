"""Verifies an engine itself: on a device against the original model, and by the means of its own backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cmx4trt.backends.base import Backend, BuiltEngine
from cmx4trt.backends.facts import Check
from cmx4trt.base.verdicts import FAILED
from cmx4trt.errors import VerificationError
from cmx4trt.requests.build import BuildRequest
from cmx4trt.store.manifest import ExecutionRecord, VerificationRecord
from cmx4trt.verify import Verification

if TYPE_CHECKING:
    from cmx4trt.graph.network import PreparedGraph
    from cmx4trt.sessions.base import Session


def execute_engine(
    backend: Backend,
    engine: BuiltEngine,
    graph: PreparedGraph,
    request: BuildRequest,
    judge: Callable[[Session], Verification],
) -> ExecutionRecord:
    """Run ``engine``, which was built from ``graph``, on the local GPU, have it judged and measured; returns the manifest's
    record.

    Raises VerificationError where it disagrees or its backend finds fault with it, DeviceError where the GPU refuses it.
    """
    session = backend.open_session(engine.data)
    try:
        found = judge(session)
        checks = backend.check_engine(engine.data, graph, session) if found.verdict != FAILED else ()
        sound = found.verdict != FAILED and all(check.passed for check in checks)
        measured = backend.measure(session) if sound else None
    finally:
        session.close()
    what = f"the engine of {graph.spec.title}, run by {session.device},"
    if found.verdict == FAILED:
        raise VerificationError(
            f"{what} disagrees with the original model: {found.sentence()}; no engine was published"
        )
    reference = "the float32 graph" if request.precision == "int8" else "the original model"
    method = f"the engine on the GPU against {reference} in ONNX Runtime"
    judged = VerificationRecord.from_dict({**found.to_dict(), "method": method})
    passed = _passed(checks, what)
    return ExecutionRecord("yes", session.device, judged.verdict, method, passed, measured, judged.figures)


def check_unexecuted(backend: Backend, engine: BuiltEngine, graph: PreparedGraph) -> ExecutionRecord:
    """What the backend can check of an engine that does not run here. Raises VerificationError where it finds fault."""
    checks = backend.check_engine(engine.data, graph, None)
    return ExecutionRecord("no", checks=_passed(checks, f"the engine of {graph.spec.title}"))


def _passed(checks: Sequence[Check], what: str) -> Sequence[Check] | None:
    """A backend's checks of an unpublished engine; None if it has none. Raises VerificationError for a failure."""
    if (failure := failure_of_checks(checks, what, "no engine was published")) is not None:
        raise failure
    return list(checks) or None


def failure_of_checks(checks: Sequence[Check], what: str, consequence: str) -> VerificationError | None:
    """The error that the first failed check is, if there is one."""
    failed = next((check for check in checks if not check.passed), None)
    if failed is None:
        return None
    return VerificationError(f"{what} fails its check '{failed.title}': {failed.sentence}; {consequence}")
