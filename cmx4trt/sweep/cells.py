"""From the values of a file to checked cells: what is built, and what is measured of it. Equal work has equal keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cmx4trt.errors import CmxError, RequestError
from cmx4trt.pipeline.evaluate import check_evaluation
from cmx4trt.pipeline.plan import check_request
from cmx4trt.pipeline.prepare import check_calibration
from cmx4trt.pipeline.source import source_of_request
from cmx4trt.requests.build import BuildRequest
from cmx4trt.requests.evaluation_options import EvaluationOptions
from cmx4trt.requests.options import build_options
from cmx4trt.store.fingerprint import SOURCE, engine_parts
from cmx4trt.sweep.file import CellValues, SweepFile
from cmx4trt.sweep.options import ACCURACY, BENCH, GPU

KEY_DIGITS = 16
_LEFT_OUT = {"model", "random_weights", "report", "output_dir", "wait"}
"""Options that the fingerprint leaves out and that make no other engine, or whose source is known here."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One engine in one measurement.

    ``build``: the key of the engine's build, the same for all cells whose engines have one fingerprint; ``measure``: that of its
    measurement, empty where nothing is measured. ``evaluations``: what ``cmx4trt build --evaluation`` takes.
    """

    name: str
    request: BuildRequest
    gpu: str | None
    evaluations: Mapping[str, Mapping[str, Any]]
    build: str
    measure: str

    @property
    def build_gpu(self) -> str | None:
        """The kind of GPU that it is built on; None where any machine will do."""
        return self.gpu if self.request.device == "cuda" else None

    @property
    def scenario(self) -> str:
        """The scenario that it is measured in, or else that of the engine."""
        return str(self.evaluations.get(BENCH, {}).get("scenario") or self.request.scenario)


def cells_of_file(file: SweepFile) -> list[Cell]:
    """The cells of a sweep, all checked before anything runs. Raises RequestError with the line, ModelError."""
    sources: dict[tuple[str | None, int | None, str], str] = {}
    return [_checked_cell(given, file.store, sources) for given in file.cells]


def _checked_cell(given: CellValues, store: str, sources: dict[tuple[str | None, int | None, str], str]) -> Cell:
    try:
        return _cell(given, store, sources)
    except CmxError as error:
        hint = ", or exclude this cell" if given.from_matrix else ""
        raise type(error)(f"{given.where.file}:{given.where.line}: cell {given.name}: {error}{hint}") from error


def _cell(given: CellValues, store: str, sources: dict[tuple[str | None, int | None, str], str]) -> Cell:
    own = {n: v for n, v in given.values.items() if "." not in n and n not in (GPU, BENCH)}
    request = BuildRequest.from_dict({**own, "output_dir": store})
    check_request(request)
    check_calibration(request)
    evaluations = _evaluations(given.values)
    for command, values in evaluations.items():
        check_evaluation(command, EvaluationOptions.from_values(values, command), request)
    gpu = given.values.get(GPU)
    if request.device == "cuda" and gpu is None:
        raise RequestError("device cuda builds on a GPU, but 'gpu' does not say on which; give, for example, gpu: sm90")
    origin = (request.model, request.random_weights, request.network)
    if origin not in sources:
        sources[origin] = source_of_request(request).part()
    build = _key({**engine_parts(request, {}), SOURCE: sources[origin]}, _given(request, gpu))
    measure = _key(build, gpu, evaluations) if evaluations else ""
    return Cell(given.name, request, gpu, evaluations, build, measure)


def _given(request: BuildRequest, gpu: str | None) -> list[Any]:
    """What the fingerprint names by content that is not known here (images, a checkout, the GPU), as it was given.

    Two paths to the same content are built twice here, and the second is then found in the store.
    """
    values = request.to_dict()
    names = [one.name for one in build_options() if not one.shapes_engine and one.name not in _LEFT_OUT]
    return [*([name, values[name]] for name in names), gpu if request.device == "cuda" else None]


def _evaluations(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For 'verify' and 'bench' the options that are given; 'verify' only where there is something to measure accuracy on."""
    found: dict[str, dict[str, Any]] = {}
    accuracy = _options_of(values, ACCURACY)
    if accuracy:
        found["verify"] = accuracy
    if values.get(BENCH) is not False:
        found[BENCH] = _options_of(values, BENCH)
    return found


def _options_of(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    own = {
        n.partition(".")[2]: value for n, value in values.items() if n.startswith(f"{prefix}.") and value is not None
    }
    return dict(sorted(own.items()))


def _key(*content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:KEY_DIGITS]


def equal_cells(cells: Sequence[Cell]) -> int:
    """How many cells are no work of their own: others have the same engine and measurement."""
    return len(cells) - len({(cell.build, cell.measure) for cell in cells})
