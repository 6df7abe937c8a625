"""What a request comes to before anything is built: its builder, its source, its place, and what the store has there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cmx4trt.backends import backend_of
from cmx4trt.base.background import Background
from cmx4trt.base.files import check_writable
from cmx4trt.base.frozen import Frozen
from cmx4trt.base.progress import READ_MODEL, Progress, Silent
from cmx4trt.errors import RequestError
from cmx4trt.networks import network_of, spec_of
from cmx4trt.pipeline.prepare import calibration_of
from cmx4trt.pipeline.result import Plan
from cmx4trt.pipeline.source import Source, source_of_request
from cmx4trt.requests.build import BuildRequest
from cmx4trt.store import folder as store
from cmx4trt.store.fingerprint import CALIBRATION, SOURCE, engine_parts, source_of_record
from cmx4trt.store.folder import EnginePaths

if TYPE_CHECKING:
    from cmx4trt.backends.base import GraphBuilder, ModelBuilder
    from cmx4trt.quantize import CalibrationData

_UNKNOWN = "not known before the model is: its digest is part of the name"


def plan(request: BuildRequest, model_follows: bool = False) -> Plan:
    """What ``build`` would do, found out without building or writing anything. Raises what ``build`` raises early.

    Nothing of a ModelBuilder's folder is executed, so that whoever does not trust one yet can see what would be done with it.
    ``model_follows``: a request without a model is no error, since CM fetches the MLPerf file when it builds.
    """
    from cmx4trt.backends import builder_for
    from cmx4trt.backends.base import ModelBuilder

    builder = builder_for(request.builder)
    if model_follows and request.model is None and request.random_weights is None:
        check_request(request)
        known = not isinstance(builder, ModelBuilder)  # what such a builder starts from may have to be fetched, too
        name = f"{builder.name} {builder.version()}" if known else builder.name
        return Plan(_UNKNOWN, name, "the MLPerf file, which a dependency fetches", False)
    if isinstance(builder, ModelBuilder):
        check_request(request)
        request = request.changed(builder.resolve(request))
        source = source_of_request(request)
        parts = {**engine_parts(request, builder.place(request)), SOURCE: source.part()}
        engine = EnginePaths.of(request, parts).engine
        return Plan(engine, f"{builder.name} {builder.version()}", source_of_record(source.record()), None)
    lookup = look_up(request, Silent())
    name = f"{builder.name} {lookup.builder.version()}"
    source_title = source_of_record(lookup.source.record())
    return Plan(lookup.paths.engine, name, source_title, lookup.found.manifest is not None)


class LookedUp(Frozen):
    """A checked request with all that its stages need, and what the store has for it."""

    request: BuildRequest
    builder: GraphBuilder | ModelBuilder
    source: Source
    calibration: CalibrationData | None
    paths: EnginePaths
    parts: Mapping[str, Any]
    found: store.Lookup


def look_up(request: BuildRequest, progress: Progress, begin: bool = False) -> LookedUp:
    """Everything that is found out about ``request`` before it is built. Raises what ``build`` raises early.

    ``begin``: where it will be built, what the build will need is loaded while the model is read.
    """
    from cmx4trt.backends import builder_for

    check_request(request)
    builder = builder_for(request.builder)
    request = request.changed(builder.resolve(request))
    source = source_of_request(request)
    parts = engine_parts(request, builder.identity(request))
    if not store.holds_engines(request, parts):  # it will be built
        source.start_reading()  # what is read for its digest need not be read again
        if begin:
            _load(request)
    with progress.stage(READ_MODEL):
        parts[SOURCE] = source.part()
    calibration = calibration_of(request, progress)
    if calibration is not None:
        parts[CALIBRATION] = calibration.part()
    paths, found = store.look_up(request, parts, progress)
    return LookedUp(request, builder, source, calibration, paths, parts, found)


def _load(request: BuildRequest) -> None:
    """The builder's library in the background, and our own code that prepares the graph here: the main thread would only wait for
    the model's file."""
    backend = backend_of(request.builder)
    Background(backend.load).outlast()
    if backend.takes_graph:
        import cmx4trt.networks.graphs  # noqa: F401

        network_of(request.network).load()


def check_request(request: BuildRequest) -> None:
    """Refuse early what cannot be built, before anything expensive. Raises CmxError."""
    spec = spec_of(request.network)
    if request.batch_size > spec.max_batch_size:
        raise RequestError(
            f"batch_size is {request.batch_size}, expected at most {spec.max_batch_size} for {spec.title} "
            f"(a TensorRT tensor holds fewer than 2^31 elements, one sample needs {spec.largest_activation})"
        )
    check_writable(request.output_dir)
