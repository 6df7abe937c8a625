"""MLPerf LoadGen; the only module that imports it.

``StartTest`` runs in its own thread: it does not hold Python's lock and cannot be interrupted, so the calling thread stays free
for Ctrl-C and for failures. LoadGen has no way to stop a test. A failed run ends immediately if LoadGen has issued all queries
(Offline), or when its schedule is over; if that takes too long the thread is left behind, asleep, and ``left_behind`` is true.
"""

from __future__ import annotations

import atexit
import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cmx4trt.base.install import pip_line
from cmx4trt.bench.host import THIS_MACHINE, Host
from cmx4trt.bench.sut import Failure, SystemUnderTest
from cmx4trt.errors import DeviceError, MissingSoftwareError

NO_AUDIT = "cmx4trt-has-no-audit.config"
"""LoadGen looks for a file with this name in the current folder, where a forgotten 'audit.config' would silently change the
run."""
_left_behind: list[threading.Thread] = []
_THREAD = "loadgen"
"""Name of the thread in which LoadGen runs."""


def import_loadgen() -> Any:
    """The module mlperf_loadgen. Raises MissingSoftwareError."""
    try:
        import mlperf_loadgen
    except ImportError as error:
        raise MissingSoftwareError(f"MLPerf LoadGen cannot be imported ({error}); {pip_line('bench')}") from error
    return mlperf_loadgen


@dataclass(frozen=True, slots=True)
class Samples:
    """LoadGen's view of the data: how many samples there are, how many fit at once, and the calls that load and unload them."""

    total: int
    in_memory: int
    load: Callable[[list[int]], None]
    unload: Callable[[list[int]], None]


def left_behind() -> bool:
    """Whether threads of a failed test are still running, LoadGen's or our own: the process must then exit with ``os._exit``."""
    return any(thread.is_alive() for thread in _left_behind)


def run_test(
    lg: Any,
    settings: Any,
    system: SystemUnderTest,
    samples: Samples,
    folder: str,
    failure: Failure,
    told: Callable[[float], None] = lambda seconds: None,
    host: Host = THIS_MACHINE,
) -> None:
    """Run one test to its end; LoadGen's logs are then in ``folder``.

    ``told`` is called every ``host.look_seconds`` with the elapsed time.

    Raises what the first failing query raised, KeyboardInterrupt; DeviceError where an earlier test has not ended.
    """
    _await_earlier_test(host.stop_seconds)
    sut = lg.ConstructFastSUT(system.issue, system.flush)
    qsl = lg.ConstructQSL(samples.total, samples.in_memory, samples.load, samples.unload)

    def work() -> None:
        try:
            lg.StartTestWithLogSettings(sut, qsl, settings, _log_settings(lg, folder), NO_AUDIT)
        except BaseException as error:
            failure.report(error)
        failure.wake.set()

    thread = threading.Thread(target=work, daemon=True, name=_THREAD)
    with _no_collections():
        thread.start()
        try:
            start = time.monotonic()
            while not failure.wake.wait(host.look_seconds):
                told(time.monotonic() - start)
        except BaseException as error:
            failure.report(error)
        thread.join(None if failure.error is None else host.stop_seconds)
    if thread.is_alive():
        failure.abandon()
        _left_behind.append(thread)
        atexit.register(thread.join, host.stop_seconds)  # LoadGen aborts a process that ends before it
    else:
        _left_behind.extend(system.close(host.stop_seconds))
        lg.DestroyFastSUT(sut)
        lg.DestroyQSL(qsl)
    if failure.error is not None:
        raise failure.error


def _await_earlier_test(seconds: float) -> None:
    """LoadGen runs one test at a time: a second one, begun before the first has ended, aborts the process (std::terminate).

    One that failed on a busy machine needs its time to end. Raises DeviceError where it takes too long.
    """
    deadline = time.monotonic() + seconds
    earlier = [thread for thread in _left_behind if thread.name == _THREAD]
    for thread in earlier:
        thread.join(max(0.0, deadline - time.monotonic()))
    if any(thread.is_alive() for thread in earlier):
        raise DeviceError(
            "LoadGen has not ended an earlier run of this process, which failed; start this one in a new process"
        )


@contextmanager
def _no_collections() -> Iterator[None]:
    """Disable the garbage collector meanwhile: it stops all threads for tens of milliseconds, more than Server's latency bound.

    The objects that a run creates repeatedly are not cyclic. On an H100 at 88,000 queries/s the p99 latency was 80 ms with it.
    """
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _log_settings(lg: Any, folder: str) -> Any:
    output = lg.LogOutputSettings()
    output.outdir = folder
    output.copy_summary_to_stdout = False
    made = lg.LogSettings()
    made.log_output = output
    made.enable_trace = False
    return made
