"""From a published engine to something that runs: the engine itself on a GPU, or its graph in ONNX Runtime."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cmx4trt import __version__
from cmx4trt.backends import backend_of
from cmx4trt.backends.base import Backend
from cmx4trt.base.damage import MALFORMED, shortened
from cmx4trt.base.files import open_file
from cmx4trt.base.progress import Progress
from cmx4trt.errors import DeviceError, MissingSoftwareError, ModelError, RequestError, UnsupportedError
from cmx4trt.images.normalization import InputForm
from cmx4trt.networks import network_of
from cmx4trt.networks.base import Answers, Network
from cmx4trt.pipeline.prepare import CALIBRATION, Prepared, calibration_of, prepare
from cmx4trt.pipeline.source import Source, source_of_request
from cmx4trt.requests.build import BuildRequest
from cmx4trt.requests.evaluation_options import ALL_GPUS, ENGINE, GRAPH
from cmx4trt.store import folder as store
from cmx4trt.store.fingerprint import SOURCE, source_of_record
from cmx4trt.store.manifest import ENGINE_ITSELF, Manifest

if TYPE_CHECKING:
    from cmx4trt.quantize import CalibrationData
    from cmx4trt.sessions.base import Session


@dataclass(frozen=True, slots=True)
class PublishedEngine:
    """An engine of the store with its manifest and the request it was built for, and what its manifest says for running it.

    ``form``: what it takes; ``answers``: how it answers LoadGen.
    """

    path: str
    manifest_path: str
    manifest: Manifest
    request: BuildRequest
    form: InputForm
    answers: Answers

    def read(self) -> bytes:
        """The engine. Raises ModelError."""
        try:
            with open_file(self.path) as stream:
                return stream.read()
        except OSError as error:
            raise ModelError(f"cannot read engine {self.path}: {error.strerror}") from error

    @property
    def backend(self) -> Backend:
        """What built it, and runs it."""
        return backend_of(self.request.builder)

    @property
    def network(self) -> Network:
        """What it is of."""
        return network_of(self.request.network)


@dataclass(frozen=True, slots=True)
class Executable:
    """A session, the sentence that says what it executes, whether that is the engine itself, and whether a GPU does it."""

    session: Session
    sentence: str
    is_engine: bool
    on_gpu: bool


def read_published(path: str, network: str | None = None, model: str | None = None) -> PublishedEngine:
    """The engine at ``path``, or whose manifest that is. ``network``: what it must be; ``model``: where its source file is now.

    Raises ModelError where there is no manifest or a damaged one, the engine is not the published one, or is of another network.
    """
    manifest_path, manifest = store.read_published_manifest(path)
    with _reading("engine.file", manifest_path):
        os.fspath(manifest.engine["file"])
    doubt = store.doubt_of_engine(manifest_path, manifest)
    if doubt:
        raise ModelError(f"{doubt}; build it again")
    with _reading("request", manifest_path):
        request = BuildRequest.from_values(BuildRequest.values_from_json(json.dumps(manifest.request)))
    if network is not None and network != request.network:
        raise ModelError(f"{path} is an engine of {request.network}, expected one of {network}; give the right engine")
    if model is not None:
        request = replace(request, model=model)
    with _reading("network.outputs", manifest_path):
        declared = [{"name": str(o["name"]), "shape": list(o["shape"])} for o in manifest.network.get("outputs", ())]
        answers = network_of(request.network).answers(declared, request)
    with _reading("graph", manifest_path):
        form = network_of(request.network).input_form(manifest.graph, _input_scale(manifest.graph), request)
    return PublishedEngine(
        store.engine_path_of(manifest_path, manifest), manifest_path, manifest, request, form, answers
    )


@contextmanager
def _reading(part: str, manifest_path: str) -> Iterator[None]:
    """Turns what a damaged ``part`` of a manifest leads to into a sentence. Raises ModelError."""
    try:
        yield
    except (RequestError, *MALFORMED) as error:
        raise ModelError(
            f"{part} in manifest {manifest_path} is not what cmx4trt writes there ({shortened(repr(error))}); "
            "build the engine again"
        ) from error


def _input_scale(graph: Mapping[str, Any]) -> float | None:
    scale = (graph.get("quantization") or {}).get("input_scale")
    return None if scale is None else float(scale)


class EngineGraph:
    """The graph an engine was built from, prepared again when it is first asked for, and proven to be the same."""

    def __init__(self, engine: PublishedEngine, progress: Progress) -> None:
        self._engine = engine
        self._progress = progress
        self._source: Source | None = None
        self._prepared: Prepared | None = None

    @property
    def source(self) -> Source:
        """The engine's source, unchanged. Raises ModelError where it is another now, UnsupportedError where we have no graph."""
        if self._source is None:
            engine = self._engine
            if not engine.backend.takes_graph:
                raise UnsupportedError(
                    f"an engine of {engine.backend.title} has no graph of ours; run it on the GPU it was built for"
                )
            source = source_of_request(engine.request)
            wanted = str(engine.manifest.parts.get(SOURCE))
            digest = "sha256" if wanted.startswith("sha256:") else "blake3"  # SHA-256 in engines of earlier releases
            found = source_of_record(source.record(), digest)
            if wanted != found:
                raise ModelError(
                    f"the model of {engine.path} has changed: it was {wanted} and is {found} now; build the engine again, "
                    "or say with --model where the file is"
                )
            self._source = source
        return self._source

    @property
    def prepared(self) -> Prepared:
        """The graph. Raises ModelError where it is not, byte for byte, what the engine was built from."""
        if self._prepared is None:
            source = self.source
            calibration = self._calibration()
            with self._progress.stage("prepare"):
                prepared = prepare(self._engine.request, source, self._progress, calibration)
            found = prepared.graph.encoded.sha256()
            if found != self._engine.manifest.graph.get("sha256"):
                raise ModelError(
                    f"cmx4trt {__version__} prepares a different graph than {self._engine.manifest.tool.get('cmx4trt')} did for "
                    f"{self._engine.path}; build it again"
                )
            self._prepared = prepared
        return self._prepared

    def _calibration(self) -> CalibrationData | None:
        """What an int8 engine was calibrated with, unchanged. Raises ModelError where it is another now."""
        calibration = calibration_of(self._engine.request, self._progress)
        if calibration is not None and calibration.part() != self._engine.manifest.parts.get(CALIBRATION):
            raise ModelError(
                f"the calibration data of {self._engine.path} have changed: they were "
                f"{self._engine.manifest.parts.get(CALIBRATION)} and are {calibration.part()} now; build the engine again"
            )
        return calibration


@contextmanager
def open_executable(
    engine: PublishedEngine,
    graph: EngineGraph,
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
    executable = _open(engine, graph, execute, progress, fast, gpus)
    try:
        yield executable
    finally:
        from cmx4trt.bench.loadgen import left_behind

        if not left_behind():
            executable.session.close()


def _open(
    engine: PublishedEngine, graph: EngineGraph, execute: str, progress: Progress, fast: bool, gpus: str | None
) -> Executable:
    why = ""
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

    session = open_prepared(graph.prepared.graph, fastest_providers() if fast else CPU)
    reason = f" ({why})" if why else ""
    sentence = f"{session.device} on the engine's graph; the engine itself was not run{reason}"
    return Executable(session, sentence, is_engine=False, on_gpu=session.providers != CPU)


def _open_engine(engine: PublishedEngine, gpus: str | None) -> Executable:
    data, backend = engine.read(), engine.backend
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
