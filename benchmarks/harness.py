"""Overhead of the harness: LoadGen with a session that does nothing, compared with minimal hand-written systems under test.

    python benchmarks/harness.py [--rounds 5] [--only Offline]

Every figure is LoadGen's own, from a separate process; cases run interleaved, A B C A B C …; medians (min..max) are printed,
and the median over rounds of ours / best hand-written system in the same round.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

OFFLINE_SAMPLES = 1_000_000
SERVER_BATCH = 64
SAMPLES_IN_MEMORY = 1024
"""The same for all: Python caches the integers up to 256, so fewer samples would be an unfair advantage."""


@dataclass(frozen=True)
class Setup:
    """One measurement: a scenario with its size; ``better``: whether more or less of ``unit`` is better."""

    name: str
    scenario: str
    batch: int
    queries: int
    key: str
    unit: str
    scale: float
    better: str
    qps: float | None = None

    @property
    def samples(self) -> int:
        """Number of samples in the run."""
        return self.queries * (8 if self.scenario == "MultiStream" else 1)


SETUPS = [
    Setup("Offline, batch 64", "Offline", 64, OFFLINE_SAMPLES, "result_samples_per_second", "M samples/s", 1e-6, "more"),
    Setup("Offline, batch 2048", "Offline", 2048, OFFLINE_SAMPLES, "result_samples_per_second", "M samples/s", 1e-6, "more"),
    Setup("SingleStream, p90", "SingleStream", 1, 100_000, "result_90.00_percentile_latency_ns", "us", 1e-3, "less"),
    Setup("MultiStream, p90", "MultiStream", 8, 20_000, "result_90.00_percentile_per_query_latency_ns", "us", 1e-3, "less"),
    *(
        Setup(f"Server, {qps // 1000}k/s, p99", "Server", SERVER_BATCH, 100_000,
              "result_99.00_percentile_latency_ns", "ms", 1e-6, "less", float(qps))
        for qps in (20_000, 50_000, 100_000)
    ),
]  # fmt: skip


def hand_written_loop(lg: Any, batch: int) -> tuple[Any, Callable[[Any], None]]:
    """ConstructFastSUT; response objects made once, ids set in a loop."""
    pool, complete = [lg.QuerySampleResponse(0, 0, 0) for _ in range(batch)], lg.QuerySamplesComplete

    def issue(ids: list[int], indices: list[int]) -> None:
        for start in range(0, len(ids), batch):
            part = ids[start : start + batch]
            used = pool if len(part) == batch else pool[: len(part)]
            for response, number in zip(used, part, strict=True):
                response.id = number
            complete(used)

    return lg.ConstructFastSUT(issue, lambda: None), lg.DestroyFastSUT


def hand_written_map(lg: Any, batch: int) -> tuple[Any, Callable[[Any], None]]:
    """The same without a loop in the interpreter."""
    pool, complete = [lg.QuerySampleResponse(0, 0, 0) for _ in range(batch)], lg.QuerySamplesComplete
    set_id = lg.QuerySampleResponse.id.fset

    def issue(ids: list[int], indices: list[int]) -> None:
        for start in range(0, len(ids), batch):
            part = ids[start : start + batch]
            used = pool if len(part) == batch else pool[: len(part)]
            deque(map(set_id, used, part), 0)
            complete(used)

    return lg.ConstructFastSUT(issue, lambda: None), lg.DestroyFastSUT


def hand_written_plain(lg: Any, batch: int) -> tuple[Any, Callable[[Any], None]]:
    """ConstructSUT; a new response object for every sample, as in tutorials."""
    response, complete = lg.QuerySampleResponse, lg.QuerySamplesComplete

    def issue(samples: list[Any]) -> None:
        for start in range(0, len(samples), batch):
            complete([response(sample.id, 0, 0) for sample in samples[start : start + batch]])

    return lg.ConstructSUT(issue, lambda: None), lg.DestroySUT


HAND_WRITTEN = {"plain": hand_written_plain, "reused, loop": hand_written_loop, "reused, map": hand_written_map}
OURS = "cmx4trt"


class NoData:
    """1024 empty samples."""

    shape = (1, 1, 1)
    description = "none"
    complete = False
    truth = None

    def __len__(self) -> int:
        return SAMPLES_IN_MEMORY

    def read(self, index: int, out: Any) -> None:
        raise AssertionError("a session without inputs reads nothing")


def run_ours(setup: Setup, folder: str) -> None:
    from cmx4trt.base.progress import Silent
    from cmx4trt.bench.run import Bench, run_bench
    from cmx4trt.bench.settings import BenchSettings
    from cmx4trt.networks.classification.responses import ClassResponder
    from cmx4trt.sessions.null import NullSession

    def responder(lg: Any, size: int) -> ClassResponder:
        return ClassResponder(lg, size, "class", 0)

    bench = Bench(NullSession(setup.batch), "resnet50", responder, NoData(), setup.batch, "nothing")
    conf = Path(folder, "user.conf")
    conf.write_text(f"*.*.performance_sample_count_override = {SAMPLES_IN_MEMORY}\n")
    settings = BenchSettings(setup.scenario, count=setup.samples, target_qps=setup.qps, user_conf=str(conf))
    run_bench(bench, settings, folder, Silent())


def run_hand_written(name: str, setup: Setup, folder: str) -> None:
    import mlperf_loadgen as lg

    settings = lg.TestSettings()
    settings.FromConfig("", "resnet50", setup.scenario, 0)
    settings.scenario = getattr(lg.TestScenario, setup.scenario)
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms, settings.min_query_count = 0, setup.queries
    if setup.scenario in ("SingleStream", "MultiStream"):
        settings.max_query_count = setup.queries
    if setup.qps:
        settings.server_target_qps = setup.qps
    log = lg.LogSettings()
    log.log_output.outdir = folder
    log.log_output.copy_summary_to_stdout = False
    log.enable_trace = False
    sut, destroy = HAND_WRITTEN[name](lg, setup.batch)
    qsl = lg.ConstructQSL(SAMPLES_IN_MEMORY, SAMPLES_IN_MEMORY, lambda indices: None, lambda indices: None)
    lg.StartTestWithLogSettings(sut, qsl, settings, log, "none")
    destroy(sut)
    lg.DestroyQSL(qsl)


def child(case: str, number: int) -> None:
    """Run one case and print its figures."""
    setup = SETUPS[number]
    with tempfile.TemporaryDirectory() as folder:
        if case == OURS:
            run_ours(setup, folder)
        else:
            run_hand_written(case, setup, folder)
        values = {}
        for line in Path(folder, "mlperf_log_detail.txt").read_text().splitlines():
            entry = json.loads(line.removeprefix(":::MLLOG "))
            values[entry["key"]] = entry["value"]
    usage = resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        "value": values[setup.key] * setup.scale,
        "valid": values["result_validity"],
        "peak_mib": usage.ru_maxrss / 1024,
        "cpu": usage.ru_utime + usage.ru_stime,
        "completed": values.get("result_completed_samples_per_sec"),
    }
    print(json.dumps(figures))


def run_child(case: str, number: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", case, "--setup", str(number)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{case} failed:\n{result.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return figures


def measure(number: int, cases: Sequence[str], rounds: int) -> dict[str, list[dict[str, Any]]]:
    runs: dict[str, list[dict[str, Any]]] = {case: [] for case in cases}
    for turn in range(rounds + 1):
        for case in cases:
            figures = run_child(case, number)
            if turn:  # the first round warms up caches
                runs[case].append(figures)
    return runs


def print_runs(setup: Setup, runs: dict[str, list[dict[str, Any]]]) -> None:
    def column(case: str, key: str) -> list[float]:
        return [run[key] for run in runs[case]]

    print(f"\n{setup.name} [{setup.unit}], {setup.samples:,} samples, {setup.better} is better")
    print("| system | median (min..max) | VALID | completed/s | CPU s | peak MiB |\n|---|---|---|---|---|---|")
    for case in runs:
        found = column(case, "value")
        valid = sum(run["valid"] == "VALID" for run in runs[case])
        done = runs[case][0]["completed"]
        completed = f"{statistics.median(column(case, 'completed')):.0f}" if done else "-"
        print(
            f"| {case} | {statistics.median(found):.3f} ({min(found):.3f}..{max(found):.3f}) | {valid}/{len(found)} "
            f"| {completed} | {statistics.median(column(case, 'cpu')):.2f} | {statistics.median(column(case, 'peak_mib')):.0f} |"
        )
    best = max if setup.better == "more" else min
    for label, others in (("best hand-written", [c for c in runs if c != OURS]), ("'reused, loop'", ["reused, loop"])):
        ratios = [
            ours / best(values)
            for ours, values in zip(
                column(OURS, "value"), zip(*(column(case, "value") for case in others), strict=True), strict=True
            )
        ]
        print(f"ours / {label}, paired: {statistics.median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="only measurements whose name contains this")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--setup", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.setup)
        return
    for number, setup in enumerate(SETUPS):
        if arguments.only in setup.name:
            print_runs(setup, measure(number, [OURS, *HAND_WRITTEN], arguments.rounds))


if __name__ == "__main__":
    main()
