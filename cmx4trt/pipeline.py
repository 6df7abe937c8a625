"""build(request) -> the published engine: the order of the stages and nothing else."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cmx4trt import __version__, store
from cmx4trt.background import Background
from cmx4trt.errors import RequestError, UnsupportedError, VerificationError
from cmx4trt.files import check_writable
from cmx4trt.fingerprint import SOURCE, engine_parts, fingerprint_of, source_of_digest, source_of_seed
from cmx4trt.manifest import SKIPPED, Manifest
from cmx4trt.models import spec_of
from cmx4trt.progress import Progress, Silent
from cmx4trt.request import BuildRequest
from cmx4trt.source import Source, source_of_request
from cmx4trt.store import EnginePaths

if TYPE_CHECKING:
    from cmx4trt.builders.base import BuiltEngine, GraphBuilder, ModelBuilder
    from cmx4trt.graph.network import PreparedGraph

STOP_SECONDS = 10.0
"""How long an interrupted build may take to notice; then the process ends under it."""


@dataclass(frozen=True, slots=True)
class BuildResult:
    """Where the engine and its manifest lie, and whether they were there before (``reused``)."""

    engine: str
    manifest_path: str
    manifest: Manifest
    reused: bool

    def rows(self) -> list[tuple[str, str]]:
        """The outcome for people: what lies where, and how far it is proven."""
        engine, verification = self.manifest.engine, self.manifest.verification
        return [
            ("engine", self.engine),
            ("manifest", self.manifest_path),
            ("size", f"{engine['bytes'] / 1e6:.1f} MB"),
            ("sha256", str(engine["sha256"])),
            ("graph verified", str(verification.get("verdict"))),
            ("engine run on a device", str(self.manifest.execution.get("engine_executed_on_a_device"))),
        ]

    def exports(self) -> dict[str, str]:
        """The outcome for the next script: CM exports each as CM_MLPERF_ENGINE_<key>."""
        request = self.manifest.request
        return {
            "FILE_WITH_PATH": self.engine,
            "MANIFEST_WITH_PATH": self.manifest_path,
            "SHA256": str(self.manifest.engine["sha256"]),
            "BYTES": str(self.manifest.engine["bytes"]),
            "MODEL": str(request["network"]),
            "PRECISION": str(request["precision"]),
            "BATCH_SIZE": str(request["batch_size"]),
            "COPY_STREAMS": str(request["copy_streams"]),
            "SCENARIO": str(request["scenario"]),
            "BUILDER": str(request["builder"]),
            "BUILDER_VERSION": str(self.manifest.builder["version"]),
            "TARGET": str(request["target"]),
            "VERIFIED": "yes" if self.manifest.verified else "no",
            "REUSED": "yes" if self.reused else "no",
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request would do: ``reused`` means that its engine is there already."""

    engine: str
    builder: str
    source: str
    reused: bool

    def rows(self) -> list[tuple[str, str]]:
        """The plan for people."""
        return [("engine", self.engine), ("builder", self.builder), ("source", self.source)]


def plan(request: BuildRequest, model_follows: bool = False) -> Plan:
    """What ``build`` would do, found out without building or writing anything. Raises what ``build`` raises early.

    ``model_follows``: a request without a model is no error, since CM fetches the MLPerf file when it builds.
    """
    from cmx4trt.builders import builder_for

    identity = builder_for(request.builder).identity(request)
    name = f"{identity['name']} {identity['version']}"
    if model_follows and request.model is None and request.random_weights is None:
        check_request(request)
        return Plan(EnginePaths.for_request(request).engine, name, "the MLPerf file, fetched by CM", False)
    lookup = _look_up(request)
    return Plan(lookup.paths.engine, name, lookup.source.part({}), lookup.found.manifest is not None)


@dataclass(frozen=True, slots=True)
class _LookedUp:
    """A checked request with all that its stages need, and what the store has for it."""

    request: BuildRequest
    builder: GraphBuilder | ModelBuilder
    source: Source
    paths: EnginePaths
    parts: Mapping[str, Any]
    found: store.Lookup


def _look_up(request: BuildRequest) -> _LookedUp:
    from cmx4trt.builders import builder_for

    check_request(request)
    builder = builder_for(request.builder)
    request = builder.resolve(request)
    source, paths = source_of_request(request), EnginePaths.for_request(request)
    parts = engine_parts(request, builder.identity(request))
    return _LookedUp(request, builder, source, paths, parts, store.find(request, paths, parts, source.part))


def check_request(request: BuildRequest) -> None:
    """Refuse early what cannot be built, before anything expensive. Raises CmxError."""
    if request.precision == "int8" and request.builder != "common-code":
        raise UnsupportedError("precision int8 is not part of this release of cmx4trt; use fp16, bf16 or fp32")
    spec = spec_of(request.network)
    if request.batch_size > spec.max_batch_size:
        raise RequestError(
            f"batch_size is {request.batch_size}, expected at most {spec.max_batch_size} for {spec.title} "
            f"(a TensorRT tensor holds fewer than 2^31 elements, one sample needs {spec.largest_activation})"
        )
    check_writable(request.output_dir)


def build(request: BuildRequest, progress: Progress | None = None) -> BuildResult:
    """The engine for ``request``: the published one if it fits, else prepared, built, verified and published.

    Raises a CmxError (see cmx4trt.errors); KeyboardInterrupt leaves nothing behind.
    """
    progress = progress or Silent()
    known = _look_up(request)
    if known.found.manifest is not None:
        return BuildResult(known.paths.engine, known.paths.manifest, known.found.manifest, True)
    if known.found.doubt:
        progress.note(f"{known.found.doubt}; building again")
    manifest = _Build(known, progress).run()
    return BuildResult(known.paths.engine, known.paths.manifest, manifest, False)


class _Build:
    """One build; the fields are what all its stages need."""

    def __init__(self, known: _LookedUp, progress: Progress) -> None:
        self._request = known.request
        self._builder = known.builder
        self._source = known.source
        self._paths = known.paths
        self._parts = known.parts
        self._progress = progress
        self._seconds: dict[str, float] = {}
        self._execution: dict[str, Any] = {"engine_executed_on_a_device": "no"}
        self._stop = False

    def run(self) -> Manifest:
        from cmx4trt.builders.base import ModelBuilder

        builder = self._builder
        return self._run_on_model(builder) if isinstance(builder, ModelBuilder) else self._run_on_graph(builder)

    def _run_on_model(self, builder: ModelBuilder) -> Manifest:
        with self._stage("build"):
            engine = builder.build_from_model(self._request, self._progress)
        with self._stage("publish"):
            return self._publish(None, engine, {"verdict": SKIPPED, "reason": builder.unverified})

    def _run_on_graph(self, builder: GraphBuilder) -> Manifest:
        with self._stage("prepare"):
            graph = self._prepare()
        # The library works without Python's lock: verification uses the other core meanwhile.
        building = Background(lambda: self._build(builder, graph))
        try:
            verification = self._verify(graph)
            engine = building.result()
        except BaseException:
            self._stop = True
            building.wait(STOP_SECONDS)
            raise
        if self._request.device == "cuda" and self._request.verify:
            self._execute(graph, engine)
        with self._stage("publish"):
            return self._publish(graph, engine, verification)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        with self._progress.stage(name):
            yield
        self._seconds[name] = round(time.perf_counter() - start, 4)

    def _prepare(self) -> PreparedGraph:
        self._source.start_reading()
        from cmx4trt.graph import network_from_model, prepared_from_network

        network = network_from_model(self._source.model(), spec_of(self._request.network), self._request)
        return prepared_from_network(network, self._request)

    def _build(self, builder: GraphBuilder, graph: PreparedGraph) -> BuiltEngine:
        with self._stage("build"):
            return builder.build(graph, self._request, self._progress, lambda: self._stop)

    def _verify(self, graph: PreparedGraph) -> dict[str, Any]:
        if not self._request.verify:
            return {"verdict": SKIPPED, "reason": "verification was switched off"}
        from cmx4trt.verify import verify_graph

        with self._stage("verify"):
            verification = verify_graph(graph, self._source.message, self._request)
        if not verification.passed:
            raise VerificationError(
                f"the prepared graph of {graph.spec.title} disagrees with the original model: {verification.sentence()}; "
                "no engine was published (another precision may serve, or --verify=no)"
            )
        return verification.to_dict()

    def _execute(self, graph: PreparedGraph, engine: BuiltEngine) -> None:
        """Run the engine itself on the GPU and hold it to the same limits as its graph."""
        from cmx4trt.builders import execution_library
        from cmx4trt.runtimes.cuda import open_device
        from cmx4trt.runtimes.tensorrt import TensorRTSession
        from cmx4trt.verify import verify_graph

        with self._stage("execute"):
            device = open_device()
            session = TensorRTSession(execution_library(self._builder.name, device.gpu), engine.data, device)
            try:
                verification = verify_graph(graph, self._source.message, self._request, session)
            finally:
                session.close()
        if not verification.passed:
            raise VerificationError(
                f"the engine of {graph.spec.title}, run by {session.device}, disagrees with the original model: "
                f"{verification.sentence()}; no engine was published"
            )
        measured = {**verification.to_dict(), "method": "the engine on the device against the original in ONNX Runtime"}
        self._execution = {"engine_executed_on_a_device": "yes", "device": session.device, **measured}

    def _publish(self, graph: PreparedGraph | None, engine: BuiltEngine, verification: Mapping[str, Any]) -> Manifest:
        digest = Background(lambda: hashlib.sha256(engine.data).hexdigest())
        manifest = self._manifest(graph, engine, verification)
        return store.publish(self._paths, engine.data, digest, manifest)

    def _manifest(self, graph: PreparedGraph | None, engine: BuiltEngine, verification: Mapping[str, Any]) -> Manifest:
        import datetime
        import platform

        source = self._source.record()
        part = source_of_digest(source["sha256"]) if "sha256" in source else source_of_seed(source["seed"])
        parts = {**self._parts, SOURCE: part}
        return Manifest(
            fingerprint=fingerprint_of(parts),
            parts=parts,
            engine={},
            request={name: getattr(self._request, name) for name in self._request.__slots__},
            source=source,
            network=_network_record(graph, self._request),
            builder={**self._builder.identity(self._request), **engine.facts, "warnings": list(engine.log)},
            graph=_graph_record(graph),
            verification=verification,
            execution=self._execution,
            stages=dict(self._seconds),
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            tool={"cmx4trt": __version__, "python": platform.python_version(), "machine": platform.machine()},
        )


def _graph_record(graph: PreparedGraph | None) -> dict[str, Any]:
    if graph is None:
        return {}
    return {"message_sha256": hashlib.sha256(graph.encoded.message).hexdigest(), **graph.notes}


def _network_record(graph: PreparedGraph | None, request: BuildRequest) -> dict[str, Any]:
    def shown(infos: list[Any]) -> list[dict[str, Any]]:
        return [{"name": i.name, "dtype": i.dtype.name.lower(), "shape": list(i.dims or ())} for i in infos]

    return {
        "title": spec_of(request.network).title,
        **({"inputs": shown(graph.inputs), "outputs": shown(graph.outputs)} if graph else {}),
        "profiles": {
            "count": request.copy_streams,
            "batch_min": 1,
            "batch_opt": request.batch_size,
            "batch_max": request.batch_size,
        },
    }
