"""Is an engine right, and how fast is it? The two questions, answered over whatever can execute it here."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cmx4trt.errors import CmxError, DataError, RequestError, ResultInvalidError, UnsupportedError, VerificationError
from cmx4trt.executable import (
    OWN_BUILDERS,
    EngineGraph,
    Executable,
    PublishedEngine,
    open_executable,
    read_published,
)
from cmx4trt.manifest import FAILED, PASSED, SKIPPED
from cmx4trt.models.spec import Task
from cmx4trt.prepare import Prepared, verify, verify_execution
from cmx4trt.progress import Progress, Silent
from cmx4trt.proof_request import ProofRequest
from cmx4trt.request import BuildRequest

if TYPE_CHECKING:
    from cmx4trt.bench.datasets import Dataset
    from cmx4trt.bench.results import BenchResult
    from cmx4trt.bench.settings import BenchSettings
    from cmx4trt.verify import OriginalMessage, Verification

_AGREES = {
    PASSED: ("yes", "yes"),
    FAILED: ("no", "no"),
    SKIPPED: ("unknown", "not judged: what was measured on these images cannot tell"),
}
"""Verdict -> the export, the row."""
SHORT_SAMPLES = 64
"""Synthetic images of a run, unless more are asked for: as many as a short run keeps in memory."""


@dataclass(frozen=True, slots=True)
class Proof:
    """An answer: rows for people, the first of which says what executed; exports for the next script; ``error`` if it is a no."""

    rows: list[tuple[str, str]]
    exports: Mapping[str, str]
    error: CmxError | None = None


def bench_engine(request: ProofRequest, progress: Progress | None = None) -> Proof:
    """Run LoadGen over the engine, or over its graph where no device here can run it.

    A run that LoadGen calls INVALID is the proof's ``error`` (ResultInvalidError), and so is an accuracy below MLPerf's target
    (VerificationError). Raises CmxError where there is no result: RequestError, ModelError, DataError, DeviceError,
    MissingSoftwareError, UnsupportedError, OutputError.
    """
    progress = progress or Silent()
    engine = read_published(request.engine, request.network, request.model)
    _check_values(engine, request)
    dataset = _open_dataset(engine, request)
    if request.mode == "accuracy":
        _check_truth(request, dataset)
    with open_executable(engine, EngineGraph(engine, progress), request.execute, progress) as executable:
        result = _run(engine, request, executable, dataset, progress)
        exports = {**_exports_of(executable), **result.exports()}
    if result.valid is False:
        error = ResultInvalidError(
            f"LoadGen calls the run INVALID: {(result.reason or 'no reason given').rstrip('.')}; logs in {result.folder}"
        )
        return Proof(result.rows(), exports, error)
    return Proof(result.rows(), exports, _accuracy_error(result))


def verify_engine(request: ProofRequest, progress: Progress | None = None) -> Proof:
    """Compare the engine, or its graph, with the original model; with ``data`` also measure accuracy.

    A disagreement is the proof's ``error`` (VerificationError). Raises CmxError as ``bench_engine`` does.
    """
    progress = progress or Silent()
    request = replace(request, mode="accuracy")
    engine = read_published(request.engine, request.network, request.model)
    _check_values(engine, request)
    dataset, comparable = None, engine.request.builder in OWN_BUILDERS
    if not comparable and request.data is None:
        raise UnsupportedError(
            f"{engine.path} was built by NVIDIA's code from a graph of its own, which nothing can be compared with; "
            "measure its accuracy with --data=FOLDER"
        )
    if request.data is not None:
        dataset = _open_dataset(engine, request)
        _check_truth(request, dataset)
    graph = EngineGraph(engine, progress)
    # Only accuracy gains by speed; the comparison's limits are those of the CPU.
    with open_executable(engine, graph, request.execute, progress, fast=dataset is not None) as executable:
        rows = [("executed", executable.sentence), ("engine", engine.path)]
        exports = _exports_of(executable)
        error = _compare(engine, graph, executable, rows, exports, progress) if comparable else None
        if dataset is not None and error is None:
            result = _run(engine, request, executable, dataset, progress)
            rows += result.rows()[1:]
            exports |= result.exports()
            error = _accuracy_error(result)
    return Proof(rows, exports, error)


def _compare(
    engine: PublishedEngine,
    graph: EngineGraph,
    executable: Executable,
    rows: list[tuple[str, str]],
    exports: dict[str, str],
    progress: Progress,
) -> CmxError | None:
    """Numbers against the original model, on seeded inputs; what was found goes into ``rows`` and ``exports``."""
    prepared = graph.prepared
    with progress.stage("verify"):
        found = _judge(prepared, graph.source.message, engine.request, executable)
    agrees, words = _AGREES[found.verdict]
    where = "" if executable.is_engine else ", in ONNX Runtime on the CPU"
    rows += [("agrees with the original model", words), ("measured", found.sentence() + where)]
    exports["AGREES"] = agrees
    if found.verdict != FAILED:
        return None
    return VerificationError(
        f"{engine.path} disagrees with its original model: {found.sentence()}; build it with another precision"
    )


def _judge(
    prepared: Prepared, original: OriginalMessage, request: BuildRequest, executable: Executable
) -> Verification:
    if not executable.is_engine:
        return verify(prepared, original, request)
    if prepared.float32 is not None:  # an int8 engine is held to the float32 graph, and that graph to the original
        found = verify(prepared, original, request)
        if found.verdict == FAILED:
            return found
    return verify_execution(prepared, original, request, executable.session)


def _exports_of(executable: Executable) -> dict[str, str]:
    return {"EXECUTED": "engine" if executable.is_engine else "graph", "DEVICE": executable.session.device}


def _run(
    engine: PublishedEngine, request: ProofRequest, executable: Executable, dataset: Dataset, progress: Progress
) -> BenchResult:
    """One LoadGen run, with accuracy in accuracy mode."""
    from cmx4trt.bench.responses import responder_for
    from cmx4trt.bench.run import Bench, run_bench

    settings = _settings(engine, request)
    batch = request.batch_size or engine.request.batch_size
    responder = responder_for(engine.spec, executable.session.outputs, _classes(engine), engine.request.nms_offset)
    subject = {
        "engine": engine.path,
        "network": engine.spec.title,
        "precision": engine.request.precision,
        "engine sha256": engine.manifest.engine["sha256"],
        "batch size": batch,
    }
    bench = Bench(executable.session, engine.request.network, responder, dataset, batch, executable.sentence, subject)
    result = run_bench(bench, settings, _log_folder(engine, request, settings), progress)
    if settings.mode != "accuracy":
        return result
    result = replace(result, accuracy=_measure_accuracy(engine, dataset, result.folder))
    result.save()
    return result


def _check_values(engine: PublishedEngine, request: ProofRequest) -> None:
    """Refuse what cannot be meant before anything is opened. Raises RequestError."""
    from cmx4trt.bench.user_conf import read_user_conf

    settings = _settings(engine, request)
    if settings.user_conf is not None:
        read_user_conf(settings.user_conf, engine.request.network, settings.scenario)
    if request.batch_size is not None and request.batch_size > engine.request.batch_size:
        raise RequestError(
            f"batch_size is {request.batch_size}, expected at most the engine's {engine.request.batch_size}"
        )


def _settings(engine: PublishedEngine, request: ProofRequest) -> BenchSettings:
    from cmx4trt.bench.settings import BenchSettings

    return BenchSettings(
        scenario=request.scenario or engine.request.scenario,
        mode=request.mode,
        rules=request.rules,
        count=request.count if request.mode == "performance" else None,  # the data set has that many images already
        duration=request.duration if request.mode == "performance" else None,
        target_qps=request.target_qps,
        user_conf=request.user_conf,
    )


def _log_folder(engine: PublishedEngine, request: ProofRequest, settings: BenchSettings) -> str:
    """As in a submission's results: <Scenario>/performance/run_1 or <Scenario>/accuracy."""
    root = request.log_dir or f"{os.path.splitext(engine.path)[0]}.results"
    parts = ("performance", "run_1") if settings.mode == "performance" else ("accuracy",)
    return os.path.join(root, settings.scenario, *parts)


def _open_dataset(engine: PublishedEngine, request: ProofRequest) -> Dataset:
    from cmx4trt.bench.datasets import SYNTHETIC, SyntheticImages, open_folder

    form = _input_form(engine)
    if request.data is None or request.data == SYNTHETIC:
        if request.labels is not None:
            raise DataError("synthetic data have no labels; leave --labels out, or give --data=FOLDER")
        batch = request.batch_size or engine.request.batch_size
        return SyntheticImages(engine.spec, form, _synthetic_count(request, batch))
    count = request.count if request.mode == "accuracy" else None
    return open_folder(engine.spec, form, request.data, request.labels, count)


def _synthetic_count(request: ProofRequest, batch: int) -> int:
    if request.mode == "accuracy" and request.count:
        return request.count
    if request.rules == "mlperf":
        from cmx4trt.bench.datasets import MLPERF_SAMPLES

        return max(MLPERF_SAMPLES, batch)
    return max(min(SHORT_SAMPLES, request.count or SHORT_SAMPLES), batch)


def _input_form(engine: PublishedEngine) -> Any:
    """What images the engine takes: the manifest says how the file normalised, and the scale of an int8 input."""
    from cmx4trt.bench.datasets import InputForm

    graph = engine.manifest.graph
    normalization = None
    if engine.spec.task is Task.DETECTION:
        if engine.request.input_range == "0-1":
            normalization = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        elif "normalization" in graph:
            found = json.loads(graph["normalization"])
            normalization = (tuple(found["mean"]), tuple(found["std"]))
    scale = (graph.get("quantization") or {}).get("input_scale")
    return InputForm.of_network(engine.spec, normalization, scale)


def _classes(engine: PublishedEngine) -> int:
    """How many logits a classifier has; 1000 where the engine has none among its outputs (NVIDIA's)."""
    for output in engine.manifest.network.get("outputs", ()):
        if output["name"] == "logits":
            return int(output["shape"][1])
    return 1000


def _check_truth(request: ProofRequest, dataset: Dataset) -> None:
    """Labels that are missing are found out before the run, unless the data cannot have any."""
    if request.data in (None, "synthetic") or dataset.truth is not None:
        return
    from cmx4trt.bench.labels import LABEL_FILES

    names = " or ".join(LABEL_FILES.values())
    raise DataError(f"no labels for {request.data}: it holds no {names}; give the label file with --labels")


def _measure_accuracy(engine: PublishedEngine, dataset: Dataset, folder: str) -> dict[str, Any]:
    from cmx4trt.models.retinanet import DetectorSpec
    from cmx4trt.verify.accuracy import accuracy_of, map_of_answers, read_accuracy_log, top1_of_answers

    answers = read_accuracy_log(os.path.join(folder, "mlperf_log_accuracy.json"))
    truth = dataset.truth
    if truth is None:
        return {
            "images": len(answers),
            "verdict": "none",
            "note": "synthetic data have no labels: nothing is said about accuracy",
        }
    network, details = engine.request.network, engine.spec.details
    if isinstance(details, DetectorSpec):
        value = map_of_answers(answers, truth.path, truth.positions, details.classes)
        return accuracy_of(network, "mAP", value, len(answers), dataset.complete).to_dict()
    value = top1_of_answers(answers, truth.labels)
    return accuracy_of(network, "top-1", value, len(answers), dataset.complete).to_dict()


def _accuracy_error(result: BenchResult) -> CmxError | None:
    accuracy = result.accuracy
    if accuracy.get("verdict") != FAILED:
        return None
    return VerificationError(
        f"{accuracy['metric']} is {accuracy['value']} %, expected at least MLPerf's {accuracy['target']} %; "
        f"logs in {result.folder}"
    )
