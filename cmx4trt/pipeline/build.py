"""build(request) -> the published engine: the order of the stages and nothing else."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cmx4trt import __version__
from cmx4trt.backends import backend_of
from cmx4trt.base.background import Background
from cmx4trt.base.digests import digests_of
from cmx4trt.base.frozen import Frozen, field, replace
from cmx4trt.base.progress import Progress, Silent
from cmx4trt.base.verdicts import FAILED, SKIPPED
from cmx4trt.errors import VerificationError
from cmx4trt.pipeline.checked import CheckedGraph, checked_graph
from cmx4trt.pipeline.plan import LookedUp, look_up
from cmx4trt.pipeline.result import BuildResult
from cmx4trt.pipeline.source import Source
from cmx4trt.requests.build import BuildRequest
from cmx4trt.store import folder as store
from cmx4trt.store.fingerprint import SOURCE, fingerprint_of
from cmx4trt.store.folder import EnginePaths
from cmx4trt.store.manifest import (
    BuilderRecord,
    EngineFile,
    ExecutionRecord,
    GraphRecord,
    Manifest,
    RequestRecord,
    SourceRecord,
    VerificationRecord,
)

if TYPE_CHECKING:
    from cmx4trt.backends.base import BuiltEngine, GraphBuilder, ModelBuilder
    from cmx4trt.graph.network import PreparedGraph
    from cmx4trt.pipeline.prepare import Prepared
    from cmx4trt.quantize import CalibrationData

MakeGraph = Callable[[BuildRequest, Source, Progress, "CalibrationData | None"], CheckedGraph]


def build(request: BuildRequest, progress: Progress | None = None, new: bool = False) -> BuildResult:
    """The engine for ``request``: the published one if it fits and ``new`` is not set, else prepared, built, verified, published.

    Raises RequestError, ModelError, DataError (int8), MissingSoftwareError, DeviceError or UnsupportedError before anything is
    built, then BuildError, VerificationError or OutputError; KeyboardInterrupt leaves nothing behind, or says that the
    engine is published.
    """
    return build_with_graph(request, progress, new)[0]


def build_with_graph(
    request: BuildRequest, progress: Progress | None = None, new: bool = False, make_graph: MakeGraph = checked_graph
) -> tuple[BuildResult, CheckedGraph | None]:
    """``build``, with the graph that was prepared for it, for whoever goes on with the engine; None where none was needed.

    ``make_graph``: prepares that graph.
    """
    progress = progress or Silent()
    known = look_up(request, progress, begin=True)
    if known.found.manifest is not None and not new:
        return _result(known, known.found.manifest, True, progress), None
    store.check_places(known.paths)
    with store.building(known.paths, request.wait, progress):
        paths, found = store.look_up(known.request, known.parts, progress)  # whoever was before us may have built it
        if found.manifest is not None and not new:
            return _result(replace(known, paths=paths), found.manifest, True, progress), None
        if found.doubt:
            progress.note(f"{found.doubt}; building again")
        one = _Build(known, progress, make_graph)
        manifest = one.run()
    known = replace(known, paths=EnginePaths.of(known.request, manifest.parts))
    return _result(known, manifest, False, progress), one.graph


def _result(known: LookedUp, manifest: Manifest, reused: bool, progress: Progress) -> BuildResult:
    from cmx4trt.report.automatic import remove_outdated_report, report_after_build

    report = ""
    if known.request.report:
        report = report_after_build(known.paths, progress)
    elif not reused:
        remove_outdated_report(known.paths)
    return BuildResult(known.paths.engine, known.paths.manifest, manifest, reused, report)


class _Outcome(Frozen):
    """What the stages before publishing have made; a builder that starts from the model has no ``graph`` of ours."""

    engine: BuiltEngine
    digests: Background[dict[str, str]]
    verification: VerificationRecord
    graph: PreparedGraph | None = None
    described: GraphRecord = field(default_factory=GraphRecord)


class _Build:
    """One build; the fields are what all its stages need."""

    def __init__(self, known: LookedUp, progress: Progress, make_graph: MakeGraph) -> None:
        self._make_graph = make_graph
        self._request = known.request
        self._builder = known.builder
        self._source = known.source
        self._paths = known.paths
        self._calibration = known.calibration
        self._parts = known.parts
        self._progress = progress
        self._seconds: dict[str, float] = {}
        self._execution = ExecutionRecord("no")
        self._stop = False
        self._loading: Background[None] | None = None
        self.graph: CheckedGraph | None = None

    def run(self) -> Manifest:
        from cmx4trt.backends.base import ModelBuilder

        builder = self._builder
        return self._run_on_model(builder) if isinstance(builder, ModelBuilder) else self._run_on_graph(builder)

    def _run_on_model(self, builder: ModelBuilder) -> Manifest:
        with self._stage("build"):
            log = f"{self._paths.engine.removesuffix('.plan')}.log"
            engine = builder.build_from_model(self._request, self._progress, log)
        with self._stage("publish"):
            skipped = VerificationRecord(SKIPPED, reason=builder.unverified)
            return self._publish(_Outcome(engine, _digests(engine), skipped))

    def _run_on_graph(self, builder: GraphBuilder) -> Manifest:
        with self._stage("prepare"):
            graph = self.graph = self._make_graph(self._request, self._source, self._progress, self._calibration)
        prepared = graph.prepared
        # The library works without Python's lock: verification uses the other core meanwhile. The main thread only waits,
        # because a signal that interrupts one thread's import can lock the others' out (importlib's module locks).
        building = Background(lambda: self._build(builder, prepared.graph))
        verifying = Background(lambda: self._verify(graph))
        describing = Background(lambda: self._describe(prepared))
        try:
            described, verification = describing.result(), verifying.result()
            engine, digests = building.result()
        except BaseException:
            self._stop = True
            # Whoever asked hears of it now; the library looks up between its phases only.
            building.outlast()
            if self._loading is not None:
                self._loading.outlast()
            raise
        if self._request.verify:
            self._execution = self._check_engine(engine, digests, graph)
        with self._stage("publish"):
            return self._publish(_Outcome(engine, digests, verification, prepared.graph, described))

    def _describe(self, prepared: Prepared) -> GraphRecord:
        """What the manifest says of the graph, which has to be sound. Raises ModelError."""
        from cmx4trt.pipeline.records import graph_record

        # Digests first: they are computed without Python's lock, which the library needs for its messages as it begins.
        self._source.record()
        record = graph_record(prepared)
        prepared.graph.check()
        return record

    def _check_engine(
        self, engine: BuiltEngine, digests: Background[dict[str, str]], graph: CheckedGraph
    ) -> ExecutionRecord:
        """What is found of the engine itself: on the device, where there is one, and by its backend's own means."""
        from cmx4trt.verify.engine import check_unexecuted, execute_engine

        backend, request = backend_of(self._request.builder), self._request
        if request.device != "cuda":
            return check_unexecuted(backend, engine, graph.prepared.graph)
        with self._stage("execute"):
            return execute_engine(
                backend,
                engine,
                graph.prepared.graph,
                request,
                lambda session: graph.verify_engine(session, digests.result()["sha256"]),
            )

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        with self._progress.stage(name):
            yield
        self._seconds[name] = round(time.perf_counter() - start, 4)

    def _build(self, builder: GraphBuilder, graph: PreparedGraph) -> tuple[BuiltEngine, Background[dict[str, str]]]:
        if not self._request.verify:
            self._load_report()  # beside the builder
        with self._stage("build"):
            engine = builder.build(graph, self._request, self._progress, lambda: self._stop)
        if self._request.verify:
            self._load_report()  # beside the rest of the verification
        return engine, _digests(engine)

    def _load_report(self) -> None:
        if self._request.report and not self._stop:
            from cmx4trt.report.automatic import get_ready

            self._loading = Background(get_ready)

    def _verify(self, graph: CheckedGraph) -> VerificationRecord:
        if not self._request.verify:
            return VerificationRecord(SKIPPED, reason="verification was switched off")
        with self._stage("verify"):
            found = graph.verify()
        if found.verdict == FAILED:
            raise VerificationError(
                f"the prepared graph of {graph.prepared.graph.spec.title} disagrees with the original model: "
                f"{found.sentence()}; no engine was published (try another precision, or --verify=no)"
            )
        return VerificationRecord.from_dict(found.to_dict())

    def _publish(self, outcome: _Outcome) -> Manifest:
        parts = {**self._parts, SOURCE: self._source.part()}
        # Not where it was looked for, should the model's file have been exchanged before it was read.
        paths = EnginePaths.of(self._request, parts)
        return store.publish(
            paths,
            outcome.engine.data,
            outcome.digests,
            lambda file: self._manifest(outcome, file, parts),
            self._request.wait,
            self._progress,
            fingerprint=fingerprint_of(parts),
            judged=outcome.verification.method is not None,
        )

    def _manifest(self, outcome: _Outcome, file: EngineFile, parts: Mapping[str, Any]) -> Manifest:
        from cmx4trt.pipeline.records import network_record

        facts = {**self._builder.identity(self._request), **outcome.engine.facts}
        return Manifest(
            fingerprint=fingerprint_of(parts),
            parts=parts,
            engine=file,
            request=RequestRecord.from_dict(self._request.to_dict()),
            source=SourceRecord.from_dict(self._source.record()),
            network=network_record(outcome.graph, self._request),
            builder=BuilderRecord.from_dict({**facts, "warnings": list(outcome.engine.log)}),
            graph=outcome.described,
            verification=outcome.verification,
            execution=self._execution,
            stages=dict(self._seconds),
            created=time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
            tool={"cmx4trt": __version__, "python": sys.version.split()[0], "machine": os.uname().machine},
        )


def _digests(engine: BuiltEngine) -> Background[dict[str, str]]:
    return Background(lambda: digests_of(engine.data))
