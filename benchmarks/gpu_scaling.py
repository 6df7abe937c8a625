"""One engine on 1, 2, 4, ... GPUs of a host under LoadGen: samples/s in total and per GPU, scaling, host CPU, PCIe, samples/J.

    python benchmarks/gpu_scaling.py ENGINE [--gpus 1 2 4 8] [--scenario Offline Server] [--rules short] [--rounds 3]
        [--server_load 0.8] [--out FOLDER]

Every run is a separate `cmx4trt bench`, whose LoadGen logs stay in FOLDER. Numbers of GPUs that the host does not have are
skipped. Server's target rate is ``--server_load`` of what Offline reached with the same number of GPUs in the same call;
scaling is relative to one GPU in the same call. "PCIe" is the bandwidth of the samples: samples/s of a GPU times the bytes of a
sample. "host CPU" is CPU seconds per second, including startup and loading. "samples/J" divides samples/s by the power that NVML
reports for the GPUs, median over the run.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MEASURED = (
    "scenario",
    "GPUs",
    "samples/s",
    "a GPU",
    "x one",
    "shares",
    "p99 ms",
    "VALID",
    "host CPU",
    "PCIe GB/s",
    "samples/J",
)
PUBLISHED = {"Offline": {8: 771_137, 1: 96_392}, "Server": {8: 681_328, 1: 85_166}}
"""Best published samples/s of ResNet-50 on one and on eight H200s (MLPerf Inference, closed division)."""


def bench(engine: str, folder: Path, scenario: str, gpus: int, rules: str, target_qps: float | None) -> dict[str, Any]:
    """One run: its result as written by `cmx4trt bench`, and the host CPU it used. Raises RuntimeError without a result."""
    words = [sys.executable, "-m", "cmx4trt", "bench", engine, f"--scenario={scenario}", f"--log_dir={folder}"]
    words += [f"--gpus={','.join(map(str, range(gpus)))}", f"--rules={rules}", "--execute=engine"]
    words += [f"--target_qps={target_qps:.0f}"] if target_qps else []
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    file = folder / scenario / "performance" / "run_1" / "cmx4trt_result.json"
    if not file.exists():
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr[-1500:]}")
    result: dict[str, Any] = json.loads(file.read_text())
    result["host_cpu"] = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / wall
    return result


def gigabytes(result: dict[str, Any], gpus: int) -> float:
    """GB/s that the samples use on one GPU's link."""
    memory = result["memory"]
    size = memory["bytes"] / memory["samples"] if memory else 0.0
    return float(result["metric"]["value"]) / gpus * size / 1e9


def joules(result: dict[str, Any]) -> str:
    """Samples per joule of the GPUs; the first and last second of the run are left out."""
    readings = [gpu["watts"][1:-1] for gpu in (result["timeline"] or {"gpus": []})["gpus"]]
    watts = sum(statistics.median(one) for one in readings if one)
    return f"{float(result['metric']['value']) / watts:.1f}" if watts else "-"


def row(scenario: str, gpus: int, results: list[dict[str, Any]], of_one: float | None) -> tuple[float, str]:
    """The median samples/s, and the table row."""
    value = statistics.median(float(result["metric"]["value"]) for result in results)
    valid = f"{sum(bool(result['valid']) for result in results)} of {len(results)}"
    scaling = f"{value / of_one:.2f}" if of_one else "-"
    shares = results[-1]["gpus"]
    spread = f"{min(g['share'] for g in shares):.3f}..{max(g['share'] for g in shares):.3f}" if shares else "-"
    p99 = statistics.median(result["latency_ns"].get("99.00", 0) for result in results) / 1e6
    cpu = statistics.median(result["host_cpu"] for result in results)
    published = f"{PUBLISHED[scenario][gpus]:,}" if gpus in PUBLISHED[scenario] else "-"
    cells = [
        scenario,
        str(gpus),
        f"{value:,.0f}",
        f"{value / gpus:,.0f}",
        scaling,
        spread,
        f"{p99:.2f}" if scenario == "Server" else "-",
        valid,
    ]
    cells += [f"{cpu:.2f}", f"{gigabytes(results[-1], gpus):.1f}", joules(results[-1]), published]
    return value, f"| {' | '.join(cells)} |"


def count_gpus(engine: str) -> int:
    """The number of GPUs of this host."""
    from cmx4trt.pipeline.published import read_published

    return read_published(engine).backend.count_gpus()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine")
    parser.add_argument("--gpus", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--scenario", nargs="+", default=["Offline", "Server"], choices=["Offline", "Server"])
    parser.add_argument("--rules", default="short", choices=["short", "mlperf"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--server_load", type=float, default=0.8)
    parser.add_argument("--out", type=Path, default=Path("gpu_scaling"))
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} CPUs, rules {arguments.rules}, {arguments.rounds} runs each, {arguments.engine}")
    headings = [*MEASURED, "published (H200)"]
    print(f"| {' | '.join(headings)} |\n{'|---' * len(headings)}|", flush=True)
    offline: dict[int, float] = {}
    present = count_gpus(arguments.engine)
    for scenario in arguments.scenario:
        of_one = None
        for gpus in [number for number in arguments.gpus if number <= present]:
            target = arguments.server_load * offline[gpus] if scenario == "Server" and gpus in offline else None
            folders = [arguments.out / f"{scenario}-{gpus}-{turn + 1}" for turn in range(arguments.rounds)]
            results = [bench(arguments.engine, f, scenario, gpus, arguments.rules, target) for f in folders]
            value, line = row(scenario, gpus, results, of_one)
            print(line, flush=True)
            of_one = value if gpus == 1 else of_one
            if scenario == "Offline":
                offline[gpus] = value


if __name__ == "__main__":
    main()
