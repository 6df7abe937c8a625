"""A published engine, read once, and the graph it was built from, prepared once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cmx4trt import __version__
from cmx4trt.backends import backend_of
from cmx4trt.backends.base import Backend
from cmx4trt.base.damage import MALFORMED, shortened
from cmx4trt.base.progress import CHECK_ENGINE, READ_MODEL, Progress
from cmx4trt.errors import ModelError, RequestError, UnsupportedError
from cmx4trt.images.normalization import InputForm
from cmx4trt.networks import network_of
from cmx4trt.networks.base import Answers, Network
from cmx4trt.pipeline.checked import CheckedGraph
from cmx4trt.pipeline.prepare import calibration_of, prepare
from cmx4trt.pipeline.source import Source, source_of_request
from cmx4trt.quantize.record import QuantizationRecord
from cmx4trt.requests.build import BuildRequest
from cmx4trt.store import folder as store
from cmx4trt.store.fingerprint import CALIBRATION, SOURCE, source_of_record
from cmx4trt.store.manifest import GraphRecord, Manifest

if TYPE_CHECKING:
    from cmx4trt.quantize import CalibrationData


@dataclass(frozen=True, slots=True)
class PublishedEngine:
    """An engine of the store with its manifest and the request it was built for, and what its manifest says for running it.

    ``form``: what it takes; ``answers``: how it answers LoadGen; ``data``: its bytes, which are those that were published.
    """

    path: str
    manifest_path: str
    manifest: Manifest
    request: BuildRequest
    form: InputForm
    answers: Answers
    data: bytes = field(repr=False)

    @property
    def backend(self) -> Backend:
        """What built it, and runs it."""
        return backend_of(self.request.builder)

    @property
    def network(self) -> Network:
        """What it is of."""
        return network_of(self.request.network).of_engine(self.manifest.graph.more)

    def asked_as(self, network: str | None, model: str | None) -> PublishedEngine:
        """The same engine, which must be of ``network``, with its source file at ``model``; None: as its manifest says.

        Raises ModelError.
        """
        if network is not None and network != self.request.network:
            raise ModelError(
                f"{self.path} is an engine of {self.request.network}, expected one of {network}; give the right engine"
            )
        return self if model is None else replace(self, request=replace(self.request, model=model))


def read_published(path: str) -> PublishedEngine:
    """The engine at ``path``, or whose manifest that is.

    Raises ModelError where there is no manifest or a damaged one, or the engine is not the published one.
    """
    manifest_path, manifest = store.read_published_manifest(path)
    data = store.read_engine(manifest_path, manifest)
    with _reading("request", manifest_path):
        request = BuildRequest.from_dict(manifest.request.to_dict())
    notes, options = manifest.graph.more, request.graph_options()
    with _reading("graph", manifest_path):
        network = network_of(request.network).of_engine(notes)
    with _reading("network.outputs", manifest_path):
        declared = [{"name": one.name, "shape": one.shape} for one in manifest.network.outputs or ()]
        answers = network.answers(declared, options)
    with _reading("graph", manifest_path):
        form = network.input_form(notes, _input_scale(manifest.graph), options)
    engine = store.engine_path_of(manifest_path, manifest)
    return PublishedEngine(engine, manifest_path, manifest, request, form, answers, data)


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


def _input_scale(graph: GraphRecord) -> float | None:
    return QuantizationRecord.from_dict(graph.quantization or {}, "quantization").input_scale


class EngineGraph:
    """A published engine with the graph it was built from: prepared when first asked for, and found to be the same.

    ``made``: that graph, where this process has built the engine and has it still.
    """

    def __init__(self, engine: PublishedEngine, progress: Progress, made: CheckedGraph | None = None) -> None:
        self.engine = engine
        self._progress = progress
        self._made = made

    @property
    def graph(self) -> CheckedGraph:
        """The graph. Raises ModelError where it is not, byte for byte, what the engine was built from."""
        if self._made is None:
            engine, source = self.engine, self._source()
            calibration = self._calibration()
            with self._progress.stage("prepare"):
                prepared = prepare(engine.request, source, self._progress, calibration)
            if prepared.graph.encoded.sha256() != engine.manifest.graph.sha256:
                raise ModelError(
                    f"cmx4trt {__version__} prepares a different graph than {engine.manifest.tool.get('cmx4trt')} did for "
                    f"{engine.path}; build it again"
                )
            self._made = CheckedGraph(prepared, source, engine.request)
        return self._made

    def _source(self) -> Source:
        """The engine's source, unchanged. Raises ModelError where it is another now, UnsupportedError where we have no graph."""
        engine = self.engine
        if not engine.backend.takes_graph:
            raise UnsupportedError(
                f"an engine of {engine.backend.title} has no graph of ours; run it on the GPU it was built for"
            )
        source = source_of_request(engine.request)
        wanted = str(engine.manifest.parts.get(SOURCE))
        digest = "sha256" if wanted.startswith("sha256:") else "blake3"  # SHA-256 in engines of earlier releases
        with self._progress.stage(READ_MODEL):
            found = source_of_record(source.record(), digest)
        if wanted != found:
            raise ModelError(
                f"the model of {engine.path} has changed: it was {wanted} and is {found} now; build the engine again, "
                "or say with --model where the file is"
            )
        return source

    def _calibration(self) -> CalibrationData | None:
        """What an int8 engine was calibrated with, unchanged. Raises ModelError where it is another now."""
        calibration = calibration_of(self.engine.request, self._progress)
        wanted = self.engine.manifest.parts.get(CALIBRATION)
        if calibration is not None and calibration.part() != wanted:
            raise ModelError(
                f"the calibration data of {self.engine.path} have changed: they were {wanted} and are {calibration.part()} "
                "now; build the engine again"
            )
        return calibration


class EngineAtHand:
    """The one engine that a process asks several things about: its file is read once, its graph prepared once."""

    def __init__(self, path: str, progress: Progress, made: CheckedGraph | None = None) -> None:
        """``path``: the engine's or its manifest's; ``made``: its graph, where this process has built it. Nothing is read."""
        self.path = path
        self._progress = progress
        self._made = made
        self._engine: PublishedEngine | None = None
        self._subject: EngineGraph | None = None

    def subject(self, network: str | None, model: str | None) -> EngineGraph:
        """The engine with its graph; arguments as of ``PublishedEngine.asked_as``. Raises ModelError."""
        if self._engine is None:
            with self._progress.stage(CHECK_ENGINE):
                self._engine = read_published(self.path)
        engine = self._engine.asked_as(network, model)
        if self._subject is None or engine.request != self._subject.engine.request:
            made = self._made if self._made is not None and self._made.request == engine.request else None
            self._subject = EngineGraph(engine, self._progress, made)
        return self._subject
