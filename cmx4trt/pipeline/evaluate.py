"""Is an engine right, and how fast is it? The two questions, answered over whatever can execute it here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cmx4trt.base.progress import Progress, Silent
from cmx4trt.base.verdicts import FAILED, PASSED, SKIPPED
from cmx4trt.errors import CmxError, DataError, RequestError, ResultInvalidError, UnsupportedError, VerificationError
from cmx4trt.pipeline.executable import EngineGraph, Executable, PublishedEngine, open_executable, read_published
from cmx4trt.pipeline.prepare import Prepared, verify, verify_execution
from cmx4trt.requests.build import BuildRequest
from cmx4trt.requests.evaluation import EvaluationRequest
from cmx4trt.requests.evaluation_options import (
    ACCURACY,
    ALL_GPUS,
    LOADGEN_OPTIONS,
    MAX_COUNT,
    PERFORMANCE,
    SYNTHETIC_DATA,
)
from cmx4trt.store.manifest import ENGINE_SHA256

if TYPE_CHECKING:
    from cmx4trt.bench.datasets import Dataset
    from cmx4trt.bench.results import BenchResult
    from cmx4trt.bench.settings import BenchSettings
    from cmx4trt.verify import OriginalMessage, Verification

_AGREES = {
    PASSED: ("yes", "yes"),
    FAILED: ("no", "no"),
    SKIPPED: ("unknown", "not judged: inconclusive on these images"),
}
"""Verdict -> the export, the row."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An answer: rows for people, the first of which says what ran; exports for the next script; ``error``, set on failure."""

    rows: list[tuple[str, str]]
    exports: Mapping[str, str]
    error: CmxError | None = None


def bench_engine(request: EvaluationRequest, progress: Progress | None = None) -> Evaluation:
    """Run LoadGen over the engine, or over its graph where no device here can run it.

    A run that LoadGen calls INVALID is the evaluation's ``error`` (ResultInvalidError), and so is an accuracy below MLPerf's
    target (VerificationError). Raises CmxError where there is no result: RequestError, ModelError, DataError, DeviceError,
    MissingSoftwareError, UnsupportedError, OutputError.
    """
    progress = progress or Silent()
    engine = read_published(request.engine, request.network, request.model)
    check_evaluation("bench", request, engine.request)
    dataset = _open_dataset(engine, request)
    if request.mode == ACCURACY:
        _check_truth(engine, request, dataset)
    graph = EngineGraph(engine, progress)
    with open_executable(engine, graph, request.execute, progress, gpus=request.gpus) as executable:
        result = _run(engine, request, executable, dataset, progress)
        exports = {**_exports_of(executable), **result.exports()}
    if result.valid is False:
        error = ResultInvalidError(
            f"LoadGen calls the run INVALID: {(result.reason or 'no reason given').rstrip('.')}; logs in {result.folder}"
        )
        return Evaluation(result.rows(), exports, error)
    return Evaluation(result.rows(), exports, _accuracy_error(result))


def verify_engine(request: EvaluationRequest, progress: Progress | None = None) -> Evaluation:
    """Compare the engine, or its graph, with the original model; with ``data`` also measure accuracy.

    A disagreement is the evaluation's ``error`` (VerificationError). Raises CmxError as ``bench_engine`` does.
    """
    progress = progress or Silent()
    engine = read_published(request.engine, request.network, request.model)
    check_evaluation("verify", request, engine.request)
    request = replace(request, mode=ACCURACY)
    dataset, comparable = None, engine.backend.takes_graph
    if not comparable and request.data is None:
        raise UnsupportedError(
            f"{engine.path} was built by {engine.backend.title} from a graph of its own, so there is nothing to compare it with; "
            "measure its accuracy with --data=FOLDER"
        )
    if request.data is not None:
        dataset = _open_dataset(engine, request)
        _check_truth(engine, request, dataset)
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
    return Evaluation(rows, exports, error)


def _compare(
    engine: PublishedEngine,
    graph: EngineGraph,
    executable: Executable,
    rows: list[tuple[str, str]],
    exports: dict[str, str],
    progress: Progress,
) -> CmxError | None:
    """Numbers against the original model, on seeded inputs; what was found goes into ``rows`` and ``exports``."""
    from cmx4trt.verify.engine import failure_of_checks

    prepared = graph.prepared
    with progress.stage("verify"):
        found = _judge(prepared, graph.source.message, engine.request, executable)
    agrees, words = _AGREES[found.verdict]
    where = ", the graph on the CPU" if executable.on_gpu and not executable.is_engine else ""
    rows += [("agrees with the original model", words), ("measured", found.sentence() + where)]
    exports["AGREES"] = agrees
    if found.verdict == FAILED:
        return VerificationError(
            f"{engine.path} disagrees with its original model: {found.sentence()}; build it with another precision"
        )
    session = executable.session if executable.is_engine else None
    checks = engine.backend.check_engine(engine.read(), prepared.graph, session)
    rows += [(check.title, f"{'yes' if check.passed else 'no'}: {check.sentence}") for check in checks]
    failure = failure_of_checks(checks, engine.path, "build it again")
    measured = engine.backend.measure(session) if session is not None and failure is None else None
    if measured is not None:
        rows.append(("speed", measured.sentence()))
    return failure


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
    engine: PublishedEngine, request: EvaluationRequest, executable: Executable, dataset: Dataset, progress: Progress
) -> BenchResult:
    """One LoadGen run, with accuracy in accuracy mode."""
    from cmx4trt.bench.run import Bench, run_bench

    settings = _settings(engine.request, request)
    batch = request.batch_size or engine.request.batch_size
    responder = engine.answers(executable.session.outputs)
    subject = {
        "engine": engine.path,
        "network": engine.network.spec.title,
        "precision": engine.request.precision,
        ENGINE_SHA256: engine.manifest.engine["sha256"],
        "batch size": batch,
    }
    bench = Bench(executable.session, engine.request.network, responder, dataset, batch, executable.sentence, subject)
    result = run_bench(bench, settings, _log_folder(engine, request, settings), progress)
    if settings.mode != ACCURACY:
        return result
    with progress.stage("accuracy"):
        result = replace(result, accuracy=_measure_accuracy(engine, dataset, result.folder))
    result.save()
    return result


def check_evaluation(command: str, request: EvaluationRequest, built: BuildRequest) -> None:
    """Refuse what cannot be meant of an engine of ``built``, which may be still to be built; ``command``: verify or bench.

    The ``engine`` and the files of ``request`` are not looked at, except user.conf. Raises RequestError.
    """
    from cmx4trt.bench.user_conf import read_user_conf

    if command == "verify":
        request = replace(request, mode=ACCURACY)
    settings = _settings(built, request)
    if (idle := _without_effect(command, request, settings.scenario)) is not None:
        raise RequestError(f"--{idle[0]} has no effect {idle[1]}; leave it out")
    if settings.user_conf is not None:
        read_user_conf(settings.user_conf, built.network, settings.scenario)
    if request.batch_size is not None and request.batch_size > built.batch_size:
        raise RequestError(f"batch_size is {request.batch_size}, expected at most the engine's {built.batch_size}")


def _without_effect(command: str, request: EvaluationRequest, scenario: str) -> tuple[str, str] | None:
    """An option that was given and changes nothing, and where."""
    if command == "verify" and request.data is None:
        for name in LOADGEN_OPTIONS:
            if getattr(request, name) is not None:
                return name, "without --data: verify runs LoadGen only to measure accuracy"
    if request.mode == ACCURACY and request.duration is not None:
        return "duration", "in accuracy mode, which answers every image once"
    several = request.gpus is not None and (request.gpus == ALL_GPUS or "," in request.gpus)
    if several and scenario in ("SingleStream", "MultiStream"):
        return "gpus", f"with several in {scenario}, where a query is sent when the one before is answered"
    if request.target_qps is not None and scenario in ("SingleStream", "MultiStream"):
        return "target_qps", f"in {scenario}, where a query is sent when the one before is answered"
    return None


def _settings(built: BuildRequest, request: EvaluationRequest) -> BenchSettings:
    from cmx4trt.bench.settings import BenchSettings

    return BenchSettings(
        scenario=request.scenario or built.scenario,
        mode=request.mode,
        rules=request.rules,
        count=request.count if request.mode == PERFORMANCE else None,  # the data set has that many images already
        duration=request.duration,
        target_qps=request.target_qps,
        user_conf=request.user_conf,
    )


def _log_folder(engine: PublishedEngine, request: EvaluationRequest, settings: BenchSettings) -> str:
    """As in a submission's results: <Scenario>/performance/run_1 or <Scenario>/accuracy."""
    root = request.log_dir or f"{os.path.splitext(engine.path)[0]}.results"
    parts = ("performance", "run_1") if settings.mode == PERFORMANCE else ("accuracy",)
    return os.path.join(root, settings.scenario, *parts)


def _open_dataset(engine: PublishedEngine, request: EvaluationRequest) -> Dataset:
    from cmx4trt.bench.datasets import SyntheticImages, open_folder

    if request.data is None or request.data == SYNTHETIC_DATA:
        if request.labels is not None:
            raise DataError("synthetic data has no labels; leave --labels out, or give --data=FOLDER")
        return SyntheticImages(engine.network.spec, engine.form, _synthetic_count(engine, request))
    count = request.count if request.mode == ACCURACY else None
    return open_folder(engine.network, engine.form, request.data, request.labels, count)


def _synthetic_count(engine: PublishedEngine, request: EvaluationRequest) -> int:
    """As many images as are asked for; a performance run draws from no more than LoadGen wants in memory, and fills a batch."""
    from cmx4trt.bench.loadgen import import_loadgen
    from cmx4trt.bench.settings import plan_run, samples_in_memory

    if request.mode == ACCURACY and request.count:
        return request.count
    batch = request.batch_size or engine.request.batch_size
    plan = plan_run(import_loadgen(), engine.request.network, _settings(engine.request, request))
    wanted = samples_in_memory(plan, batch, MAX_COUNT)
    return max(min(wanted, request.count or wanted), batch)


def _check_truth(engine: PublishedEngine, request: EvaluationRequest, dataset: Dataset) -> None:
    """Refuse, before the run, to measure accuracy without labels or software. Raises DataError, MissingSoftwareError."""
    if dataset.truth is None and request.data not in (None, SYNTHETIC_DATA):
        name = engine.network.label_file
        raise DataError(f"no labels for {request.data}: it holds no {name}; give the label file with --labels")
    if dataset.truth is not None:
        engine.network.check_measurable()


def _measure_accuracy(engine: PublishedEngine, dataset: Dataset, folder: str) -> dict[str, Any]:
    """Accuracy of a finished run whose logs are in ``folder``, judged only if every image of the complete set was answered."""
    from cmx4trt.verify.accuracy import accuracy_of, read_accuracy_log, unmeasured

    answers = read_accuracy_log(os.path.join(folder, "mlperf_log_accuracy.json"))
    if dataset.truth is None:
        return unmeasured(len(answers), "synthetic data has no labels: accuracy is not judged")
    value = engine.network.accuracy_of_answers(answers, dataset.truth)
    if value is None:
        return unmeasured(
            len(answers), "no object is annotated in these images: there is no ground truth to measure against"
        )
    complete = dataset.complete and len(answers) == len(dataset)  # user.conf can make LoadGen ask for fewer
    return accuracy_of(engine.network, value, len(answers), complete).to_dict()


def _accuracy_error(result: BenchResult) -> CmxError | None:
    accuracy = result.accuracy
    if accuracy.get("verdict") != FAILED:
        return None
    return VerificationError(
        f"{accuracy['metric']} is {accuracy['value']} %, expected at least MLPerf's {accuracy['target']} %; "
        f"logs in {result.folder}"
    )
