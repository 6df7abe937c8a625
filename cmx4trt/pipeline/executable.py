"""From a published engine to something that runs: the engine itself on a GPU, or its graph in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cmx4trt.backends.base import Backend
from cmx4trt.base.progress import Progress
from cmx4trt.errors import DeviceError, MissingSoftwareError
from cmx4trt.pipeline.published import EngineGraph, PublishedEngine
from cmx4trt.requests.evaluation_options import ALL_GPUS, ENGINE, GRAPH
from cmx4trt.store.manifest import ENGINE_ITSELF

if TYPE_CHECKING:
    from cmx4trt.sessions.base import Session


@dataclass(frozen=True, slots=True)
class Executable:
    """A session, the sentence that says what it executes, whether that is the engine itself, and whether a GPU does it."""

    session: Session
    sentence: str
    is_engine: bool
    on_gpu: bool


@contextmanager
def open_executable(
    subject: EngineGraph,
    execute: str,
    progress: Progress,
    fast: bool = True,
    gpus: str | None = None,
) -> Iterator[Executable]:
    """What ``execute`` (one of EXECUTE) asks for, closed afterwards, unless threads of a failed run still use it.

    ``fast``: a graph runs on the fastest device that ONNX Runtime knows here, else on the CPU. ``gpus``: 'all' or '0,1', of which
    each gets a session of the engine; None for the first.
    Raises DeviceError or MissingSoftwareError where only the engine would do and nothing here runs it, ModelError.
    """
    executable = _open(subject, execute, progress, fast, gpus)
    try:
        yield executable
    finally:
        from cmx4trt.bench.loadgen import left_behind

        if not left_behind():
            executable.session.close()


def _open(subject: EngineGraph, execute: str, progress: Progress, fast: bool, gpus: str | None) -> Executable:
    why, engine = "", subject.engine
    if execute != GRAPH:
        try:
            return _open_engine(engine, gpus)
        except (DeviceError, MissingSoftwareError) as error:
            own = engine.backend.takes_graph
            if execute == ENGINE or not own or gpus is not None:
                ways = ["run it on a machine with a GPU that it is for"] if isinstance(error, DeviceError) else []
                ways += ["run its graph in ONNX Runtime with --execute=graph"] if own else []
                raise type(error)(
                    f"nothing here can run {engine.path}: {error.cause}", advice=", or ".join(ways)
                ) from error
            why = error.cause
            progress.note(f"the engine cannot run here ({why}); running its graph in ONNX Runtime")
    from cmx4trt.graph.execution import open_prepared
    from cmx4trt.sessions.onnxruntime import CPU, fastest_providers

    session = open_prepared(subject.graph.prepared.graph, fastest_providers() if fast else CPU)
    reason = f" ({why})" if why else ""
    sentence = f"{session.device} on the engine's graph; the engine itself was not run{reason}"
    return Executable(session, sentence, is_engine=False, on_gpu=session.providers != CPU)


def _open_engine(engine: PublishedEngine, gpus: str | None) -> Executable:
    data, backend = engine.data, engine.backend
    if gpus is None:
        session = backend.open_session(data)
    else:
        numbers = range(backend.count_gpus()) if gpus == ALL_GPUS else map(int, gpus.split(","))
        session = _open_on(backend, data, list(numbers))
    return Executable(session, f"{ENGINE_ITSELF}, by {session.device}", is_engine=True, on_gpu=True)


def _open_on(backend: Backend, data: bytes, gpus: Sequence[int]) -> Session:
    """A session on each of these GPUs, as one. What is open already is closed where another fails."""
    from cmx4trt.sessions.group import SessionGroup

    with ExitStack() as opened:
        sessions = []
        for gpu in gpus:
            sessions.append(backend.open_session(data, gpu=gpu))
            opened.callback(sessions[-1].close)
        opened.pop_all()
    return SessionGroup(sessions) if len(sessions) > 1 else sessions[0]
