"""LoadGen, really run: every answer reaches its sample, and whatever fails ends the run."""

from __future__ import annotations

import gc
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmx4trt.base.progress import Silent
from cmx4trt.bench import loadgen
from cmx4trt.bench.host import Host
from cmx4trt.bench.loadgen import left_behind
from cmx4trt.bench.log_folder import LOG_NAMES
from cmx4trt.bench.results import read_detail_log
from cmx4trt.bench.text import rows_of_result
from cmx4trt.devices.nvml import Limits, Readings
from cmx4trt.devices.placement import Placement
from cmx4trt.errors import DataError, DeviceError, UnsupportedError
from cmx4trt.requests.options import SCENARIOS
from cmx4trt.sessions.group import SessionGroup
from cmx4trt.store.results import RESULT_NAME, Departure, GpuCourse, Metric

IMAGES = 2500
"""More than LoadGen keeps in memory at once, and no multiple of a batch."""


FIGURES = {
    "Offline": ("samples_per_second", "result_samples_per_second"),
    "Server": ("completed_samples_per_second", "result_completed_samples_per_sec"),
    "SingleStream": ("early_stopping_p90_latency", "early_stopping_latency_ss"),
    "MultiStream": ("early_stopping_p99_query_latency", "early_stopping_latency_ms"),
}
"""What MLPerf's submission checker takes from the detail log (RESULT_FIELD_NEW, v2.0 to v5.0), and our name of it."""


def answers_of(folder: str) -> dict[int, int]:
    """Sample index -> class, from LoadGen's accuracy log; every sample must be there once or be answered alike."""
    found: dict[int, int] = {}
    for entry in json.loads(Path(folder, "mlperf_log_accuracy.json").read_text()):
        value = int(np.frombuffer(bytes.fromhex(entry["data"]), np.int32)[0])
        assert found.setdefault(entry["qsl_idx"], value) == value
    return found


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize(
    "options",
    [
        {"max_batch": 8},
        {"max_batch": 64, "streams": 3, "depth": 2},
        {"max_batch": 16, "min_batch": 16},
        {"max_batch": 5, "min_batch": 3, "depth": 2, "streams": 2},
    ],
    ids=["one stream", "three streams, two deep", "padded to a fixed batch", "odd"],
)
def test_every_sample_gets_its_own_answer(run_echo: Any, echo: Any, scenario: str, options: dict[str, Any]) -> None:
    result = run_echo(echo(**options), IMAGES, scenario=scenario, mode="accuracy", target_qps=20000.0)
    assert answers_of(result.folder) == {i: i % 1000 for i in range(IMAGES)}
    assert result.status == "complete"
    assert result.valid is None
    assert result.loadgen.errors == ()


class Heard(Silent):
    """Keeps the steps of every stage."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int, int]] = []

    def step(self, name: str, done: int, total: int) -> None:
        self.steps.append((name, done, total))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_measuring_and_a_run_of_loadgen_show_life(run_echo: Any, echo: Any, scenario: str) -> None:
    """Of ten minutes and more, every second is heard of; what is counted never exceeds its total."""
    often = Host(look_seconds=0.05)
    heard = Heard()
    slow = echo(seconds=0.005)  # so that what is measured, and with it the run's length, depends on the machine no more
    rate = 500.0 if scenario == "Server" else None
    run_echo(slow, progress=heard, host=often, scenario=scenario, duration=1.5, target_qps=rate)
    assert any(name.startswith("seconds of LoadGen") and total == 2 for name, _, total in heard.steps)
    assert scenario == "Server" or ("batches to warm up and measure", 2, 3) in heard.steps
    assert all(0 <= done <= total for _, done, total in heard.steps)
    seconds = [done for name, done, _ in heard.steps if name.startswith("seconds")]
    assert seconds == sorted(seconds)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_performance_run_is_read_from_loadgens_own_logs(run_echo: Any, echo: Any, scenario: str) -> None:
    count = {"MultiStream": 8 * 700, "Server": 3000}.get(scenario, 600)
    result = run_echo(echo(), scenario=scenario, count=count, target_qps=5000.0 if scenario == "Server" else None)
    summary = Path(result.folder, "mlperf_log_summary.txt").read_text()
    assert f"Scenario : {scenario}" in summary
    assert f"Result is : {'VALID' if result.valid else 'INVALID'}" in summary
    assert bool(result.valid) is not bool(result.reason)
    assert result.valid or scenario == "Server", result.reason  # only Server has a bound that a busy machine may miss
    assert result.queries * (8 if scenario == "MultiStream" else 1) == (1 if scenario == "Offline" else count)
    assert result.metric.value > 0
    assert set(result.latency_ns) == {"50.00", "90.00", "95.00", "97.00", "99.00", "99.90"}
    assert f"{result.latency_ns['99.90']}" in summary
    logged = read_detail_log(result.folder, "performance").values
    name, key = FIGURES[scenario]
    assert (result.metric.name, result.metric.value) == (name, logged[key])
    assert "min_duration_ms" in result.departures
    assert sorted(p.name for p in Path(result.folder).iterdir()) == sorted(
        [*LOG_NAMES, "cmx4trt_result.json", "cmx4trt_result.txt"]
    )
    assert Path(result.folder, "cmx4trt_result.txt").read_text().startswith("executed: an echo\n")
    assert rows_of_result(result)[0] == ("executed", "an echo")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_batches_fill_the_session(run_echo: Any, echo: Any, scenario: str) -> None:
    session = echo(max_batch=32, streams=2, depth=2)
    run_echo(session, scenario=scenario, count=4000, mode="performance", target_qps=2000.0)
    per_query = {"Offline": 32, "SingleStream": 1, "MultiStream": 8}
    ran = session.batches[3:] if scenario == "Offline" else session.batches
    if scenario in per_query:
        assert max(session.batches) == per_query[scenario]
    if scenario == "Offline":
        assert len(set(ran[:-1])) <= 2  # whole batches, but the last
        assert len(session.threads) >= 2
    if scenario == "Server":
        assert max(session.batches) <= 32


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("options", [{}, {"streams": 2, "depth": 2}], ids=["one stream", "two streams"])
def test_a_failed_query_fails_the_run_and_leaves_marked_logs(
    run_echo: Any, echo: Any, scenario: str, options: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(DeviceError, match="the echo is gone"):
        run_echo(echo(fail_at=100, **options), scenario=scenario, count=1000, target_qps=5000.0)
    assert not left_behind()
    result = json.loads((tmp_path / "logs" / RESULT_NAME).read_text())
    assert result["status"] == "failed"
    assert "the echo is gone" in result["reason"]
    assert result["valid"] is None
    assert (tmp_path / "logs" / "mlperf_log_detail.txt.partial").exists()
    assert not (tmp_path / "logs" / "mlperf_log_summary.txt").exists()  # it might say VALID


def test_a_run_waits_for_an_earlier_one_that_is_slow_to_end(run_echo: Any, echo: Any) -> None:
    """LoadGen would abort the process."""
    with pytest.raises(DeviceError, match="the echo is gone"):
        run_echo(echo(fail_at=100), scenario="Offline", count=1000, host=Host(stop_seconds=0.0))
    assert run_echo(echo(), scenario="Offline", count=100).status == "complete"
    assert not left_behind()


def test_no_run_begins_beside_one_that_does_not_end(run_echo: Any, echo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()
    asleep = threading.Thread(target=end.wait, name="loadgen", daemon=True)
    asleep.start()
    monkeypatch.setattr(loadgen, "_left_behind", [asleep])
    with pytest.raises(DeviceError, match="has not ended an earlier run of this process"):
        run_echo(echo(), scenario="Offline", count=100, host=Host(stop_seconds=0.0))
    end.set()
    asleep.join()


def test_server_joins_what_comes_while_batches_are_computed(run_echo: Any, echo: Any) -> None:
    """Its batches take far less than the latency allows, 7.5 ms, on a loaded machine too."""
    session = echo(max_batch=64, depth=1, seconds=0.001)
    result = run_echo(session, scenario="Server", count=2000, target_qps=4000.0)
    measured = [int(size) for size in result.batch_times_ms]
    assert measured[0] == 1
    assert all(milliseconds >= 1 for milliseconds in result.batch_times_ms.values())
    ran: list[int] = []
    while sum(ran) < 2000:  # what came before was measured
        ran.append(session.batches.pop())
    assert set(ran) <= {*measured, *range(1, 9)}, "batches have the sizes that were measured"
    assert max(ran) > 1


PLACES = tuple(Placement(index, "NVIDIA H100", f"0000:{index:02x}:00.0") for index in range(3))


def placed(session: Any, index: int) -> Any:
    session.placements = (PLACES[index],) * len(session.streams())
    return session


@pytest.mark.parametrize("scenario", ["Offline", "Server"])
def test_gpus_share_one_queue(run_echo: Any, echo: Any, scenario: str) -> None:
    gpus = [placed(echo(streams=2, depth=2, seconds=0.001), index) for index in range(2)]
    group = SessionGroup(gpus)
    result = run_echo(group, IMAGES, scenario=scenario, mode="accuracy", target_qps=20000.0)
    assert answers_of(result.folder) == {i: i % 1000 for i in range(IMAGES)}
    assert all(gpu.batches for gpu in gpus)
    assert [gpu.index for gpu in result.gpus] == [0, 1]
    assert sum(gpu.samples for gpu in result.gpus) == IMAGES
    assert sum(gpu.share for gpu in result.gpus) == pytest.approx(1, abs=1e-3)
    (row,) = (text for name, text in rows_of_result(result) if name == "samples by GPU")
    assert row.startswith("GPU 0 ")


def test_threads_run_near_their_gpu(run_echo: Any, echo: Any) -> None:
    pinned: set[Any] = set()
    near = {PLACES[0].pci_bus_id: frozenset({0}), PLACES[1].pci_bus_id: frozenset()}
    host = Host(cpus_near=near.__getitem__, pin_this_thread=lambda cpus: pinned.add((threading.get_ident(), cpus)))
    group = SessionGroup([placed(echo(streams=2, depth=2), index) for index in range(2)])
    run_echo(group, IMAGES, host=host, scenario="Offline", count=2000)
    assert [cpus for _, cpus in pinned] == [{0}, {0}], (
        "both threads of the first GPU, none of the second, whose node is unknown"
    )
    assert threading.get_ident() not in {thread for thread, _ in pinned}


def test_the_one_query_of_offline_is_shared(run_echo: Any, echo: Any) -> None:
    gpus = [placed(echo(depth=2, seconds=0.001), index) for index in range(3)]
    result = run_echo(SessionGroup(gpus), IMAGES, scenario="Offline", count=2000)
    assert all(gpu.share > 0.1 for gpu in result.gpus), result.gpus


def test_the_first_batches_of_every_gpu_are_not_measured(run_echo: Any, echo: Any) -> None:
    """They record graphs, or load kernels; a rate that is too low makes Offline end before its minimum duration."""

    class SlowStart(type(echo())):  # type: ignore[misc]  # the fixture's class
        def answer(self, images: Any) -> Any:
            time.sleep(0.2 if len(self.batches) < 2 else 0)
            return super().answer(images)

    gpus = [SlowStart(depth=2, seconds=0.002) for _ in range(3)]
    result = run_echo(SessionGroup(gpus), IMAGES, scenario="Offline", duration=0.2)
    with_the_first = 3 * 5 * 2 * 8 / 0.4  # five rounds of two batches of 8, the first two of which take 0.4 s
    assert result.settings["target_qps"] > 3 * with_the_first, "12000 samples/s if nothing else runs"


@pytest.mark.parametrize("scenario", ["Offline", "Server"])
def test_a_gpu_that_fails_ends_the_run_with_its_reason(run_echo: Any, echo: Any, scenario: str) -> None:
    group = SessionGroup([placed(echo(depth=2), 0), placed(echo(depth=2, fail_at=30), 1)])
    with pytest.raises(DeviceError, match="the echo is gone"):
        run_echo(group, IMAGES, scenario=scenario, count=5000, target_qps=20000.0)
    assert not left_behind()


def test_a_run_on_a_gpu_tells_its_clock_and_what_held_it_down(run_echo: Any, echo: Any) -> None:
    host = Host(open_nvml=lambda pci: FakeNvml() if pci == "0000:00:00.0" else None, look_seconds=0.05)
    result = run_echo(placed(echo(), 0), host=host, scenario="SingleStream", duration=0.5)
    assert result.notes == [
        "GPU 0 (NVIDIA H100): its PCIe link runs at generation 4 x8 instead of generation 5 x16",
        "GPU 0 (NVIDIA H100): its clock fell to 1,410 of 1,980 MHz, throttled by its power limit (up to 698 of 700 W)",
    ]
    assert [text for name, text in rows_of_result(result) if name == "note"] == result.notes
    timeline = result.timeline
    assert len(timeline.seconds) == len(timeline.samples_per_second) > 2
    assert timeline.gpus == [GpuCourse([1410] * len(timeline.seconds), [698.0] * len(timeline.seconds))]
    answered = result.queries
    assert 0 < sum(timeline.samples_per_second) * 0.05 < 2 * answered


class FakeNvml:
    def read(self) -> Readings:
        return Readings(1410, 698.0, 64)

    def limits(self) -> Limits:
        return Limits(1980, 700.0, 4, 8, 5, 16)

    def held_down_by(self) -> frozenset[str]:
        return frozenset({"its power limit"})


def test_no_cycles_are_searched_for_during_a_run(run_echo: Any, echo: Any) -> None:
    session, seen = echo(), set()
    answer = session.answer

    def look(images: Any) -> Any:
        if len(session.batches) > 20:  # after the measurement
            seen.add(gc.isenabled())
        return answer(images)

    session.answer = look
    run_echo(session, scenario="SingleStream", count=100)
    assert seen == {False}
    assert gc.isenabled()


def test_a_slow_server_run_is_invalid_and_says_why(run_echo: Any, echo: Any) -> None:
    result = run_echo(echo(max_batch=1, seconds=0.03), scenario="Server", count=100, target_qps=100.0)
    assert result.valid is False
    assert "Reduce target QPS" in result.reason
    assert ("result", f"INVALID: {result.reason}") in rows_of_result(result)
    assert result.exports()["VALID"] == "no"


def test_an_interrupted_run_is_marked_and_raises(run_echo: Any, echo: Any, tmp_path: Path) -> None:
    session = echo()
    answer, calls = session.answer, []

    def interrupt(images: Any) -> Any:
        calls.append(1)
        if len(calls) == 12:  # after the measurement, which takes seven at most
            raise KeyboardInterrupt
        return answer(images)

    session.answer = interrupt
    with pytest.raises(KeyboardInterrupt):
        run_echo(session, scenario="Offline", count=1000, mode="performance")
    assert json.loads((tmp_path / "logs" / RESULT_NAME).read_text())["status"] == "interrupted"


def test_data_that_cannot_be_read_fail_the_run(run_echo: Any, echo: Any) -> None:
    session = echo()

    def broken(index: int, out: Any) -> None:
        if len(session.batches) >= 3:  # after the measurement
            raise DataError("the disk is gone")
        out[...] = index

    images = run_echo.images(100)
    images.read = broken
    with pytest.raises(DataError, match="the disk is gone"):
        run_echo(session, images, scenario="Offline", count=1000)


def test_a_run_leaves_nothing_of_an_earlier_one(run_echo: Any, echo: Any, tmp_path: Path) -> None:
    run_echo(echo(), scenario="Offline", mode="accuracy")
    with pytest.raises(DeviceError):
        run_echo(echo(fail_at=0), scenario="Offline", mode="accuracy")
    partial = {f"{name}.partial" for name in LOG_NAMES}
    names = {path.name for path in (tmp_path / "logs").iterdir()}
    assert names == partial | {RESULT_NAME, "cmx4trt_result.txt"}
    assert json.loads((tmp_path / "logs" / RESULT_NAME).read_text())["status"] == "failed"
    result = run_echo(echo(), scenario="Offline", mode="accuracy")
    assert len(answers_of(result.folder)) == 100
    assert not partial & {path.name for path in (tmp_path / "logs").iterdir()}


def test_batches_larger_than_the_session_takes_are_refused(run_echo: Any, echo: Any) -> None:
    with pytest.raises(UnsupportedError, match="at most 8"):
        run_echo(echo(max_batch=8), batch=9, scenario="Offline")


def test_a_run_too_short_for_an_estimate_says_which_percentile_it_gives(run_echo: Any, echo: Any) -> None:
    single = run_echo(echo(), scenario="SingleStream", count=30)
    assert single.valid is False
    assert single.metric == Metric("p90_latency", single.latency_ns["90.00"], "ns")
    multi = run_echo(echo(), scenario="MultiStream", count=80)
    assert multi.metric == Metric("p99_query_latency", multi.latency_ns["99.00"], "ns")


def test_another_percentile_has_another_name(run_echo: Any, echo: Any, tmp_path: Path) -> None:
    path = tmp_path / "user.conf"
    path.write_text("*.*.target_latency_percentile = 97.5\n")
    result = run_echo(echo(), scenario="SingleStream", count=300, user_conf=str(path))
    assert result.metric.name == "early_stopping_p97.5_latency"
    assert (
        run_echo(echo(), scenario="SingleStream", count=30, user_conf=str(path)).metric is None
    )  # LoadGen logs no p97.5


def test_a_query_of_more_samples_is_run_in_batches_of_so_many(run_echo: Any, echo: Any, tmp_path: Path) -> None:
    path = tmp_path / "user.conf"
    path.write_text("*.MultiStream.samples_per_query = 32\n")
    session = echo(max_batch=32)
    result = run_echo(session, scenario="MultiStream", count=3200, user_conf=str(path))
    assert set(session.batches) == {32}
    assert (result.queries, result.samples_per_query) == (100, 32)
    assert result.departures["multi_stream_samples_per_query"] == Departure(32, 8)


def test_samples_in_memory_are_those_of_user_conf(run_echo: Any, echo: Any, tmp_path: Path) -> None:
    path = tmp_path / "user.conf"
    path.write_text("*.*.performance_sample_count_override = 1024\n")
    large = run_echo(echo(), IMAGES, scenario="Offline", count=3000, user_conf=str(path))
    assert large.settings["performance_sample_count"] == 1024
    assert "performance_sample_count_override" not in large.departures
    small = run_echo(echo(), 70, scenario="Offline", count=3000, user_conf=str(path))
    assert small.settings["performance_sample_count"] == 70
    assert small.departures["performance_sample_count_override"] == Departure(70, 1024)
