"""Is an engine right, and how fast is it? The two questions, answered over whatever can execute it here."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from cmx4trt.base.progress import Progress, Silent
from cmx4trt.base.verdicts import FAILED
from cmx4trt.errors import CmxError, RequestError, ResultInvalidError, UnsupportedError, VerificationError
from cmx4trt.pipeline.data import check_truth, is_synthetic, open_images
from cmx4trt.pipeline.evaluation import Comparison, Evaluation
from cmx4trt.pipeline.executable import Executable, open_executable
from cmx4trt.pipeline.published import EngineAtHand, EngineGraph, PublishedEngine
from cmx4trt.requests.build import BuildRequest
from cmx4trt.requests.evaluation import EvaluationRequest
from cmx4trt.requests.evaluation_options import (
    ACCURACY,
    ALL_GPUS,
    LOADGEN_OPTIONS,
    MAX_COUNT,
    PERFORMANCE,
    EvaluationOptions,
)
from cmx4trt.store.results import Accuracy, BenchResult, Subject

if TYPE_CHECKING:
    from cmx4trt.bench.datasets import Dataset
    from cmx4trt.bench.settings import BenchSettings


def bench_engine(request: EvaluationRequest, progress: Progress | None = None) -> Evaluation:
    """Run LoadGen over the engine, or over its graph where no device here can run it.

    A run that LoadGen calls INVALID is the evaluation's ``error`` (ResultInvalidError), and so is an accuracy below MLPerf's
    target (VerificationError). Raises CmxError where there is no result: RequestError, ModelError, DataError, DeviceError,
    MissingSoftwareError, UnsupportedError, OutputError.
    """
    progress = progress or Silent()
    return bench(EngineAtHand(request.engine, progress), request.options, progress)


def bench(at_hand: EngineAtHand, options: EvaluationOptions, progress: Progress) -> Evaluation:
    """``bench_engine`` of an engine that more may be asked about."""
    subject = at_hand.subject(options.network, options.model)
    engine = subject.engine
    check_evaluation("bench", options, engine.request)
    dataset = _open_dataset(engine, options)
    if options.mode == ACCURACY:
        check_truth(engine.network, options, dataset.truth)
    with open_executable(subject, options.execute, progress, gpus=options.gpus) as executable:
        result = _run(engine, options, executable, dataset, progress)
        evaluation = replace(_begun(engine, executable), result=result)
    if result.valid is False:
        error = ResultInvalidError(
            f"LoadGen calls the run INVALID: {(result.reason or 'no reason given').rstrip('.')}; logs in {result.folder}"
        )
        return replace(evaluation, error=error)
    return replace(evaluation, error=_accuracy_error(result))


def verify_engine(request: EvaluationRequest, progress: Progress | None = None) -> Evaluation:
    """Compare the engine, or its graph, with the original model; with ``data`` also measure accuracy.

    A disagreement is the evaluation's ``error`` (VerificationError). Raises CmxError as ``bench_engine`` does.
    """
    progress = progress or Silent()
    return verify(EngineAtHand(request.engine, progress), request.options, progress)


def verify(at_hand: EngineAtHand, options: EvaluationOptions, progress: Progress) -> Evaluation:
    """``verify_engine`` of an engine that more may be asked about."""
    subject = at_hand.subject(options.network, options.model)
    engine = subject.engine
    check_evaluation("verify", options, engine.request)
    options = replace(options, mode=ACCURACY)
    dataset, comparable = None, engine.backend.takes_graph
    if not comparable and options.data is None:
        raise UnsupportedError(
            f"{engine.path} was built by {engine.backend.title} from a graph of its own, so there is nothing to compare it with; "
            "measure its accuracy with --data=FOLDER"
        )
    if options.data is not None:
        dataset = _open_dataset(engine, options)
        check_truth(engine.network, options, dataset.truth)
    # Only accuracy gains by speed; the comparison's limits are those of the CPU.
    with open_executable(subject, options.execute, progress, fast=dataset is not None) as executable:
        evaluation = _begun(engine, executable)
        if comparable:
            evaluation = _compare(subject, executable, evaluation, progress)
        if dataset is not None and evaluation.error is None:
            result = _run(engine, options, executable, dataset, progress)
            evaluation = replace(evaluation, result=result, error=_accuracy_error(result))
    return evaluation


def _begun(engine: PublishedEngine, executable: Executable) -> Evaluation:
    return Evaluation(engine.path, executable.sentence, executable.is_engine, executable.session.device)


def _compare(subject: EngineGraph, executable: Executable, begun: Evaluation, progress: Progress) -> Evaluation:
    """Numbers against the original model, on seeded inputs, and what the backend itself finds."""
    from cmx4trt.verify.engine import failure_of_checks

    engine, graph = subject.engine, subject.graph
    with progress.stage("verify"):
        if executable.is_engine:
            sha256 = engine.manifest.engine.sha256
            found = graph.verify_engine(executable.session, sha256)
        else:
            found = graph.verify()
    where = ", the graph on the CPU" if executable.on_gpu and not executable.is_engine else ""
    compared = replace(begun, comparison=Comparison(found.verdict, found.sentence() + where))
    if found.verdict == FAILED:
        error = VerificationError(
            f"{engine.path} disagrees with its original model: {found.sentence()}; build it with another precision"
        )
        return replace(compared, error=error)
    session = executable.session if executable.is_engine else None
    checks = tuple(engine.backend.check_engine(engine.data, graph.prepared.graph, session))
    failure = failure_of_checks(checks, engine.path, "build it again")
    measured = engine.backend.measure(session) if session is not None and failure is None else None
    return replace(compared, checks=checks, measured=measured, error=failure)


def _run(
    engine: PublishedEngine, options: EvaluationOptions, executable: Executable, dataset: Dataset, progress: Progress
) -> BenchResult:
    """One LoadGen run, with accuracy in accuracy mode."""
    from cmx4trt.bench.results import save_result
    from cmx4trt.bench.run import Bench, run_bench

    settings = _settings(engine.request, options)
    batch = options.batch_size or engine.request.batch_size
    responder = engine.answers(executable.session.outputs)
    title, precision = engine.network.spec.title, engine.request.precision
    subject = Subject(engine.path, title, precision, engine.manifest.engine.sha256, batch)
    bench = Bench(executable.session, engine.request.network, responder, dataset, batch, executable.sentence, subject)
    result = run_bench(bench, settings, _log_folder(engine, options, settings), progress)
    if settings.mode != ACCURACY:
        return result
    with progress.stage("accuracy"):
        result = replace(result, accuracy=_measure_accuracy(engine, dataset, result.folder))
    save_result(result)
    return result


def check_evaluation(
    command: str, options: EvaluationOptions, built: BuildRequest, images_follow: bool = False
) -> None:
    """Refuse what cannot be meant of an engine of ``built``, which may be still to be built; ``command``: verify or bench.

    Of the files of ``options`` only user.conf is looked at (pipeline/data.py looks at the others). ``images_follow``: ``data``,
    which is not given, will be a folder that is still to be fetched. Raises RequestError.
    """
    from cmx4trt.bench.user_conf import read_user_conf

    if command == "verify":
        options = replace(options, mode=ACCURACY)
    settings = _settings(built, options)
    if (idle := _without_effect(command, options, settings.scenario, images_follow)) is not None:
        raise RequestError(f"--{idle[0]} has no effect {idle[1]}; leave it out")
    if settings.user_conf is not None:
        read_user_conf(settings.user_conf, built.network, settings.scenario)
    if options.batch_size is not None and options.batch_size > built.batch_size:
        raise RequestError(f"batch_size is {options.batch_size}, expected at most the engine's {built.batch_size}")


def _without_effect(
    command: str, options: EvaluationOptions, scenario: str, images_follow: bool
) -> tuple[str, str] | None:
    """An option that was given and changes nothing, and where."""
    if command == "verify" and options.data is None and not images_follow:
        for name in LOADGEN_OPTIONS:
            if getattr(options, name) is not None:
                return name, "without --data: verify runs LoadGen only to measure accuracy"
    if options.mode == ACCURACY and options.duration is not None:
        return "duration", "in accuracy mode, which answers every image once"
    several = options.gpus is not None and (options.gpus == ALL_GPUS or "," in options.gpus)
    if several and scenario in ("SingleStream", "MultiStream"):
        return "gpus", f"with several in {scenario}, where a query is sent when the one before is answered"
    if options.target_qps is not None and scenario in ("SingleStream", "MultiStream"):
        return "target_qps", f"in {scenario}, where a query is sent when the one before is answered"
    return None


def _settings(built: BuildRequest, options: EvaluationOptions) -> BenchSettings:
    from cmx4trt.bench.settings import BenchSettings

    return BenchSettings(
        scenario=options.scenario or built.scenario,
        mode=options.mode,
        rules=options.rules,
        count=options.count if options.mode == PERFORMANCE else None,  # the data set has that many images already
        duration=options.duration,
        target_qps=options.target_qps,
        user_conf=options.user_conf,
    )


def _log_folder(engine: PublishedEngine, options: EvaluationOptions, settings: BenchSettings) -> str:
    """As in a submission's results: <Scenario>/performance/run_1 or <Scenario>/accuracy."""
    root = options.log_dir or f"{os.path.splitext(engine.path)[0]}.results"
    parts = ("performance", "run_1") if settings.mode == PERFORMANCE else ("accuracy",)
    return os.path.join(root, settings.scenario, *parts)


def _open_dataset(engine: PublishedEngine, options: EvaluationOptions) -> Dataset:
    from cmx4trt.bench.datasets import SyntheticImages

    if is_synthetic(options):
        return SyntheticImages(engine.network.spec, engine.form, _synthetic_count(engine, options))
    return open_images(engine.network, engine.form, options)


def _synthetic_count(engine: PublishedEngine, options: EvaluationOptions) -> int:
    """As many images as are asked for; a performance run draws from no more than LoadGen wants in memory, and fills a batch."""
    from cmx4trt.bench.loadgen import import_loadgen
    from cmx4trt.bench.settings import plan_run, samples_in_memory

    if options.mode == ACCURACY and options.count:
        return options.count
    batch = options.batch_size or engine.request.batch_size
    plan = plan_run(import_loadgen(), engine.request.network, _settings(engine.request, options))
    wanted = samples_in_memory(plan, batch, MAX_COUNT)
    return max(min(wanted, options.count or wanted), batch)


def _measure_accuracy(engine: PublishedEngine, dataset: Dataset, folder: str) -> Accuracy:
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
    return accuracy_of(engine.network, value, len(answers), complete)


def _accuracy_error(result: BenchResult) -> CmxError | None:
    accuracy = result.accuracy
    if accuracy is None or accuracy.verdict != FAILED:
        return None
    return VerificationError(
        f"{accuracy.metric} is {accuracy.value} %, expected at least MLPerf's {accuracy.target} %; "
        f"logs in {result.folder}"
    )
