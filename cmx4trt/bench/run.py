"""One LoadGen run over a session: measure, set up, run, read the logs."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cmx4trt.bench.datasets import Dataset
from cmx4trt.bench.library import SampleLibrary
from cmx4trt.bench.loadgen import Samples, import_loadgen, mark_partial, run_test
from cmx4trt.bench.responses import ResponderFactory
from cmx4trt.bench.results import (
    COMPLETE,
    FAILED,
    INTERRUPTED,
    LOG_SETTING,
    BenchResult,
    performance_of_log,
    read_detail_log,
    settings_of_log,
)
from cmx4trt.bench.settings import (
    PERFORMANCE,
    BenchSettings,
    Measured,
    loadgen_settings,
    needs_measurement,
    samples_in_memory,
)
from cmx4trt.bench.sut import Failure, InlineSystem, Lane, QueuedSystem, SystemUnderTest
from cmx4trt.errors import UnsupportedError
from cmx4trt.files import make_folder
from cmx4trt.progress import Progress

if TYPE_CHECKING:
    from cmx4trt.runtimes.base import Session, Stream

MULTI_STREAM_SAMPLES = 8
"""Samples of a MultiStream query (mlperf.conf)."""
MEASURE_SECONDS = 0.5
MEASURE_ROUNDS = 5
"""The rate is measured over at most so many batches on each stream, and no longer than needed for ``MEASURE_SECONDS``."""
PATIENCE_SHARE = 0.1
"""How long an incomplete Server batch waits for more samples, as a share of the latency bound: ten such waits would still fit,
and at MLPerf's own loads batches fill sooner."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What is run: a session, how its outputs become answers, the data, and what the result shall say of it all.

    ``batch``: largest batch to form. ``executed``: the sentence that says what runs. ``subject``: further facts, for people.
    """

    session: Session
    network: str
    responder: ResponderFactory
    dataset: Dataset
    batch: int
    executed: str
    subject: Mapping[str, Any] = field(default_factory=dict)


def run_bench(bench: Bench, settings: BenchSettings, folder: str, progress: Progress) -> BenchResult:
    """Run LoadGen once. Its logs and our result are in ``folder`` afterwards, also after a failure, then marked as partial.

    Raises MissingSoftwareError, RequestError, OutputError, DataError and DeviceError; KeyboardInterrupt.
    """
    lg = import_loadgen()
    largest = bench.session.max_batch
    if largest is not None and bench.batch > largest:
        raise UnsupportedError(
            f"batches of {bench.batch} were asked for, expected at most {largest}; lower --batch_size"
        )
    make_folder(folder, LOG_SETTING)
    blank = BenchResult(
        bench.executed,
        COMPLETE,
        settings.scenario,
        settings.mode,
        folder,
        dict(bench.subject),
        bench.dataset.description,
    )
    try:
        departures = _run(lg, bench, settings, folder, progress)
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        reason = "stopped by a signal" if interrupted else str(error) or type(error).__name__
        mark_partial(folder)
        replace(blank, status=INTERRUPTED if interrupted else FAILED, reason=reason).save()
        raise
    facts = read_detail_log(folder)
    measured = performance_of_log(facts, settings.scenario) if settings.mode == PERFORMANCE else {}
    loadgen = {
        "version": facts.values.get("loadgen_version", ""),
        "errors": list(facts.errors),
        "warnings": len(facts.warnings),
    }
    result = replace(blank, departures=departures, settings=settings_of_log(facts), loadgen=loadgen, **measured)
    result.save()
    return result


def _run(lg: Any, bench: Bench, settings: BenchSettings, folder: str, progress: Progress) -> dict[str, dict[str, Any]]:
    failure = Failure()
    library = SampleLibrary(bench.dataset, bench.session, failure)
    size = _batch_of_scenario(bench.batch, settings.scenario)
    held = samples_in_memory(lg, bench.network, settings, size, len(bench.dataset))
    measured = None
    if needs_measurement(settings):
        with progress.stage("measure"):
            measured = _measure(bench, library, size, MULTI_STREAM_SAMPLES if settings.scenario == "MultiStream" else 1)
    made, departures = loadgen_settings(lg, bench.network, settings, held, measured)
    lanes = [
        Lane(stream, library.feeder(stream.depth, size), bench.responder(lg, size))
        for stream in _used_streams(bench.session, settings.scenario)
    ]
    system: SystemUnderTest
    blocking = len(lanes) == 1 and lanes[0].stream.depth == 1
    if settings.scenario == "Server" or (settings.scenario == "Offline" and not blocking):
        patience = made.server_target_latency_ns * 1e-9 * PATIENCE_SHARE if settings.scenario == "Server" else 0.0
        system = QueuedSystem(lg, lanes, size, patience, failure)
    else:
        system = InlineSystem(lg, lanes[0], size, failure)
    samples = Samples(len(bench.dataset), held, library.load, library.unload)
    with progress.stage(f"bench {settings.scenario} {settings.mode}"):
        run_test(lg, made, system, samples, folder, failure)
    return departures


def _batch_of_scenario(batch: int, scenario: str) -> int:
    """The largest batch that can come up: a query's samples where one query follows the other."""
    return min(batch, {"SingleStream": 1, "MultiStream": MULTI_STREAM_SAMPLES}.get(scenario, batch))


def _used_streams(session: Session, scenario: str) -> Sequence[Stream]:
    streams = session.streams()
    return streams if scenario in ("Offline", "Server") else streams[:1]


def _measure(bench: Bench, library: SampleLibrary, size: int, per_query: int) -> Measured:
    """Warm up, then time batches of the first sample, on all streams at once, and the batches of one query alone."""
    library.read(list(range(min(size, len(bench.dataset)))))
    streams = bench.session.streams()
    indices = [i % len(bench.dataset) for i in range(size)]
    feeds = library.feeder(1, size)(indices)
    bench.session.run(feeds)
    start = time.perf_counter()
    bench.session.run(feeds)
    latency = max(time.perf_counter() - start, 1e-9)
    rounds = max(1, min(MEASURE_ROUNDS, int(MEASURE_SECONDS / latency)))

    def keep_busy(stream: Stream) -> None:
        for _ in range(rounds):
            for _ in range(stream.depth):
                stream.submit(feeds)
            for _ in range(stream.depth):
                stream.wait()

    start = time.perf_counter()
    with ThreadPoolExecutor(len(streams)) as pool:  # as in the run, each stream has a thread
        list(pool.map(keep_busy, streams))
    batches = rounds * sum(stream.depth for stream in streams)
    rate = batches * size / max(time.perf_counter() - start, 1e-9)
    return Measured(rate, latency * math.ceil(per_query / size))
