"""One LoadGen run with a session: measure, set up, run, read the logs."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from cmx4trt.base.progress import Progress
from cmx4trt.bench.datasets import Dataset
from cmx4trt.bench.host import THIS_MACHINE, Host
from cmx4trt.bench.library import SampleLibrary
from cmx4trt.bench.loadgen import Samples, import_loadgen, run_test
from cmx4trt.bench.log_folder import clear_logs, hold_log_folder, mark_partial
from cmx4trt.bench.results import (
    loadgen_of_log,
    performance_of_log,
    read_detail_log,
    save_result,
    settings_of_log,
)
from cmx4trt.bench.settings import (
    BenchSettings,
    Measured,
    Plan,
    complete_plan,
    needs_measurement,
    plan_run,
    samples_in_memory,
)
from cmx4trt.bench.sizes import batch_sizes, measure_times, sizes_within
from cmx4trt.bench.sut import Failure, InlineSystem, Lane, QueuedSystem, SystemUnderTest
from cmx4trt.bench.watch import Watch
from cmx4trt.errors import OutputError, UnsupportedError
from cmx4trt.networks.base import ResponderFactory
from cmx4trt.requests.evaluation_options import PERFORMANCE
from cmx4trt.store.results import COMPLETE, FAILED, INTERRUPTED, BenchResult, Departure, Subject

if TYPE_CHECKING:
    from cmx4trt.sessions.base import Session, Stream

MEASURE_SECONDS = 0.5
MEASURE_ROUNDS = 5
"""The rate is measured over at most this many batches per stream, and no longer than needed for ``MEASURE_SECONDS``."""
_BATCHES = "batches to warm up and measure"


@dataclass(frozen=True, slots=True)
class Bench:
    """What is run: a session, how its outputs become answers, the data, and descriptions for the result.

    ``batch``: maximum batch size. ``executed``: the sentence that says what runs. ``subject``: further facts, for people.
    """

    session: Session
    network: str
    responder: ResponderFactory
    dataset: Dataset
    batch: int
    executed: str
    subject: Subject = field(default_factory=Subject)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Everything prepared before LoadGen starts. ``size``: the largest batch that can occur; ``held``: samples in memory.

    ``times``: seconds of batches by their size, if they were measured.
    """

    plan: Plan
    departures: Mapping[str, Departure]
    library: SampleLibrary
    failure: Failure
    size: int
    held: int
    times: Mapping[int, float]


def run_bench(
    bench: Bench, settings: BenchSettings, folder: str, progress: Progress, host: Host = THIS_MACHINE
) -> BenchResult:
    """Run LoadGen once. Its logs and our result are in ``folder`` afterwards; after a failure they are marked as partial.

    Existing files are kept until LoadGen is about to start. Raises MissingSoftwareError, UnsupportedError,
    RequestError, OutputError, DataError and DeviceError; KeyboardInterrupt.
    """
    lg = import_loadgen()
    largest = bench.session.max_batch
    if largest is not None and bench.batch > largest:
        raise UnsupportedError(
            f"batches of {bench.batch} were requested, expected at most {largest}; lower --batch_size"
        )
    with hold_log_folder(folder):
        run = _prepare(lg, bench, settings, progress, host)
        blank = _result_without_end(bench, run, folder)
        save_result(blank)
        try:
            clear_logs(folder)
            with progress.stage(f"bench {settings.scenario} {settings.mode}"):
                watch = _execute(lg, bench, run, folder, progress, host)
            result = _result_of_logs(blank, settings, folder)
            result = replace(result, gpus=watch.gpus(), timeline=watch.timeline(), notes=watch.notes())
            save_result(result)
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            reason = "stopped by a signal" if interrupted else str(error) or type(error).__name__
            mark_partial(folder)
            with suppress(OutputError):  # the first error is more informative than a second one
                save_result(replace(blank, status=INTERRUPTED if interrupted else FAILED, reason=reason))
            raise
    return result


def _result_without_end(bench: Bench, run: _Prepared, folder: str) -> BenchResult:
    """The result that is valid until LoadGen has finished, and permanently if the process does not survive that long."""
    settings = run.plan.settings
    return BenchResult(
        bench.executed,
        INTERRUPTED,
        settings.scenario,
        settings.mode,
        folder,
        bench.subject,
        bench.dataset.description,
        reason="the process ended before LoadGen did",
        departures=run.departures,
        memory=run.library.held,
        batch_times_ms={str(size): round(seconds * 1e3, 4) for size, seconds in run.times.items()},
    )


def _result_of_logs(blank: BenchResult, settings: BenchSettings, folder: str) -> BenchResult:
    facts = read_detail_log(folder, settings.mode)
    found = performance_of_log(facts, settings.scenario) if settings.mode == PERFORMANCE else {}
    complete = replace(
        blank, status=COMPLETE, reason="", settings=settings_of_log(facts), loadgen=loadgen_of_log(facts)
    )
    return replace(complete, **found)


def _prepare(lg: Any, bench: Bench, settings: BenchSettings, progress: Progress, host: Host) -> _Prepared:
    failure = Failure()
    library = SampleLibrary(bench.dataset, bench.session, failure, progress.note, host.free_memory)
    plan = plan_run(lg, bench.network, settings)
    # The samples of a query, if each query waits for the one before.
    size = bench.batch if settings.scenario in ("Offline", "Server") else min(bench.batch, plan.samples_per_query)
    held = samples_in_memory(plan, size, len(bench.dataset))
    library.reserve(max(held, min(size, len(bench.dataset))))
    measured = None
    if needs_measurement(settings):
        with progress.stage("measure"):
            measured = _measure(bench, library, size, plan.samples_per_query, progress)
    departures = complete_plan(plan, held, len(bench.dataset), measured, host.free_memory())
    times: Mapping[int, float] = {}
    if settings.scenario == "Server" and settings.mode == PERFORMANCE:
        with progress.stage("measure batch sizes"):
            times = _measure_sizes(bench, library, size, _bound(plan))
    return _Prepared(plan, departures, library, failure, size, held, times)


def _execute(lg: Any, bench: Bench, run: _Prepared, folder: str, progress: Progress, host: Host) -> Watch:
    """Run LoadGen with the system under test for this scenario and session. Returns what was observed meanwhile."""
    scenario, made = run.plan.settings.scenario, run.plan.made
    lanes = _lanes(lg, bench, run)
    system: SystemUnderTest
    blocking = len(lanes) == 1 and lanes[0].stream.depth == 1
    if scenario == "Server" or (scenario == "Offline" and not blocking):
        sizes = sizes_within(run.times, _bound(run.plan), lanes[0].depth) if run.times else (run.size,)
        system = QueuedSystem(lg, lanes, sizes, run.failure, host)
    else:
        system = InlineSystem(lg, lanes[0], run.size, run.failure)
    samples = Samples(len(bench.dataset), run.held, run.library.load, run.library.unload)

    watch = Watch(lanes, host.open_nvml)

    def told(seconds: float) -> None:
        watch.look(seconds)
        if run.plan.settings.mode == PERFORMANCE:
            least = round(made.min_duration_ms / 1e3)
            progress.step("seconds of LoadGen's run", min(int(seconds), least), least)

    run_test(lg, made, system, samples, folder, run.failure, told, host)
    return watch


def _lanes(lg: Any, bench: Bench, run: _Prepared) -> list[Lane]:
    """One lane per copy stream; a single one if each query waits for the answer to the one before."""
    session = bench.session
    streams, placements = list(session.streams()), list(session.placements)
    if run.plan.settings.scenario not in ("Offline", "Server"):
        streams = streams[:1]
    return [
        Lane(stream, run.library.feeder(stream.depth, run.size), bench.responder(lg, run.size), placement)
        for stream, placement in zip_longest(streams, placements[: len(streams)])
    ]


def _bound(plan: Plan) -> float:
    """Server's latency bound in seconds."""
    nanoseconds: int = plan.made.server_target_latency_ns
    return nanoseconds * 1e-9


def _measure_sizes(bench: Bench, library: SampleLibrary, size: int, bound: float) -> dict[int, float]:
    """The slowest stream's seconds for every batch size that can meet the bound."""
    indices = [i % len(bench.dataset) for i in range(size)]  # already read by ``_measure``
    sizes = batch_sizes(min(bench.session.min_batch, size), size)
    tables = [
        measure_times(stream, library.feeder(stream.depth, size), indices, sizes, bound / (stream.depth + 1))
        for stream in bench.session.streams()
    ]
    known = [size for size in sizes if all(size in table for table in tables)]
    return {size: max(table[size] for table in tables) for size in known}


def _fastest(session: Session, feeds: Mapping[str, Any]) -> float:
    """Seconds of the last of as many batches as a stream has buffers, because each buffer may have to record a graph once."""
    for _ in range(session.streams()[0].depth):
        start = time.perf_counter()
        session.run(feeds)
        seconds = time.perf_counter() - start
    return max(seconds, 1e-9)


def _measure(bench: Bench, library: SampleLibrary, size: int, per_query: int, progress: Progress) -> Measured:
    """Warm up, then time batches of the first sample on all streams at once, and the batches of a single query alone."""
    library.read(list(range(min(size, len(bench.dataset)))))
    streams = bench.session.streams()
    indices = [i % len(bench.dataset) for i in range(size)]
    feeds = library.feeder(1, size)(indices)
    latency = _fastest(bench.session, feeds)
    progress.step(_BATCHES, 1, 3)  # these, more of them if they are short, and at least one on all streams at once
    if latency < MEASURE_SECONDS / 10:
        latency = min(latency, *(_fastest(bench.session, feeds) for _ in range(3)))
    progress.step(_BATCHES, 2, 3)
    rounds = max(1, min(MEASURE_ROUNDS, int(MEASURE_SECONDS / latency)))
    if (
        len(streams) > 1
    ):  # the session ran on the first; others, perhaps of other GPUs, still have to record their graphs
        _keep_busy(streams, feeds, 1)
    batches = rounds * sum(stream.depth for stream in streams)
    rate = batches * size / _keep_busy(streams, feeds, rounds)
    return Measured(rate, latency * math.ceil(per_query / size))


def _keep_busy(streams: Sequence[Stream], feeds: Mapping[str, Any], rounds: int) -> float:
    """Seconds of so many rounds on all streams at once; a round is as many batches as a stream takes."""

    def work(stream: Stream) -> None:
        for _ in range(rounds):
            for _ in range(stream.depth):
                stream.submit(feeds)
            for _ in range(stream.depth):
                stream.wait()

    start = time.perf_counter()
    with ThreadPoolExecutor(len(streams)) as pool:  # as in the run, each stream has its own thread
        list(pool.map(work, streams))
    return max(time.perf_counter() - start, 1e-9)
