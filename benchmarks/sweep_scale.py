"""The cost of a sweep's driver per cell, without the builds: on a Ray cluster of simulated nodes, with a builder that does
nothing. The nodes have no access to the store: every engine is transferred, checked and published.

    python benchmarks/sweep_scale.py [--cells=1000] [--nodes=50] [--engine_bytes=4096]

Nodes are processes on this machine (ray.cluster_utils); fifty need a few GB of memory.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import tempfile
import time
from collections.abc import Iterable, Sequence
from typing import Any

from cmx4trt.base.background import Background
from cmx4trt.base.digests import digests_of
from cmx4trt.requests.build import BuildRequest
from cmx4trt.store.fingerprint import SOURCE, engine_parts, fingerprint_of, source_of_seed
from cmx4trt.store.manifest import (
    BuilderRecord,
    EngineFile,
    ExecutionRecord,
    GraphRecord,
    Manifest,
    NetworkRecord,
    RequestRecord,
    SourceRecord,
    VerificationRecord,
)
from cmx4trt.store.results import COMPLETE, BenchResult, Metric
from cmx4trt.sweep.driver import Driver
from cmx4trt.sweep.on_ray import RayRunner
from cmx4trt.sweep.results import rows_of_cells
from cmx4trt.sweep.run import SweepRequest, open_sweep, write_outcome
from cmx4trt.sweep.status import TaskRecord, open_status
from cmx4trt.sweep.tasks import BUILD, Carried, Outcome, Task

BATCHES = 50
SIZE = "SWEEP_SCALE_ENGINE_BYTES"
"""Environment variable with the size of an engine, for the nodes."""


def work(task: Task, store: str, token: str, files: Sequence[Carried] = ()) -> Outcome:
    """What a node returns immediately: a fake engine, or a fake result."""
    if task.kind != BUILD:
        if not files:
            return Outcome(task.key, wants_engine=True)
        executed = "the engine itself, by nothing on a simulated node"
        metric = Metric("samples_per_second", 1.0 + len(task.key), "samples/s")
        found = BenchResult(executed, COMPLETE, "Offline", "performance", "", metric=metric, valid=True)
        return Outcome(task.key, engine=files[0].name, results={"performance": found})
    request = BuildRequest.from_dict(task.request)
    parts = {**engine_parts(request, {"name": "stub", "version": "1"}), SOURCE: source_of_seed(0)}
    data = hashlib.sha256(task.key.encode()).digest() * (int(os.environ[SIZE]) // 32)
    name = f"{task.key}.plan"
    digests = Background(lambda: digests_of(data)).result()
    manifest = Manifest(
        fingerprint_of(parts),
        parts,
        EngineFile(name, len(data), **digests),
        RequestRecord.from_dict(task.request),
        SourceRecord("random-weights", seed=0),
        NetworkRecord("none"),
        BuilderRecord("stub", "1"),
        GraphRecord(),
        VerificationRecord("skipped"),
        ExecutionRecord("no"),
        stages={},
        created="2000-01-01T00:00:00+00:00",
        tool={},
    )
    contents = {name: data, f"{task.key}.json": manifest.to_json().encode()}
    carried = tuple(Carried(n, hashlib.sha256(content).hexdigest(), content) for n, content in contents.items())
    return Outcome(task.key, engine=name, carried=carried, host="simulated")


class Watcher:
    """Records the driver's memory over time."""

    def __init__(self, tasks: int) -> None:
        self.memory: list[float] = []
        self._every = tasks // 5
        self._ended = 0

    def planned(self, tasks: int, finished: int) -> None:
        """Prints nothing."""

    def ended(self, task: Task, record: TaskRecord) -> None:
        """Sample the memory five times."""
        assert record.state == "done", record
        self._ended += 1
        if self._ended % self._every == 0:
            self.memory.append(resident())

    def going(self, running: Iterable[Task], waiting: int) -> None:
        """Prints nothing."""

    def note(self, text: str) -> None:
        """There must be no notes."""
        raise AssertionError(text)


def resident() -> float:
    """This process's memory in MB."""
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument(
        "--engine_bytes", type=int, default=4096, help="size of an engine, which is transferred to the driver and back"
    )
    arguments = parser.parse_args()
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", SIZE: str(arguments.engine_bytes)}
    import ray
    from ray.cluster_utils import Cluster

    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(arguments.nodes):
        cluster.add_node(wait=False, num_cpus=1, object_store_memory=80 * 2**20)
    cluster.wait_for_nodes(timeout=600)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=40)
    with tempfile.TemporaryDirectory() as folder:
        measure(folder, arguments.cells)
    ray.shutdown()
    cluster.shutdown()


def measure(folder: str, cells: int) -> None:
    """One sweep of this many cells, step by step."""
    path = os.path.join(folder, "scale.yaml")
    matrix = {
        "batch_size": list(range(1, BATCHES + 1)),
        "workspace_size": [f"{1024 + number}MiB" for number in range(cells // BATCHES)],
    }
    with open(path, "w", encoding="utf-8") as stream:
        json.dump({"defaults": DEFAULTS, "matrix": matrix, "tasks": {"memory": "16MiB"}}, stream)  # JSON is YAML
    clock = Clock()
    sweep = open_sweep(SweepRequest(path))
    tasks = sweep.tasks()
    clock.tell(f"read and check {len(sweep.cells)} cells", cells)
    watcher = Watcher(len(tasks))
    with open_status(sweep.state) as status:
        os.makedirs(sweep.file.store, exist_ok=True)
        runner = RayRunner(sweep.file.store, "no token", work=work)
        begin = time.perf_counter()
        Driver(tasks, runner, status, 2, watcher).run()
        clock.tell(f"{len(tasks)} tasks on {runner.title}, {time.perf_counter() - begin:.0f} s of wall time", cells)
        rows = rows_of_cells(sweep.cells, status.records)
        write_outcome(sweep, rows, print)
        clock.tell("page, CSV and JSON", cells)
    print("driver's memory after each fifth, MB:", ", ".join(f"{size:.0f}" for size in watcher.memory))


DEFAULTS = {"random_weights": 0, "verify": False}


class Clock:
    """CPU time of this process, including all its threads."""

    def __init__(self) -> None:
        self._begin = self._last = time.process_time()

    def tell(self, what: str, cells: int) -> None:
        """Print the cost of a step."""
        now = time.process_time()
        step, whole = (1e3 * (now - since) / cells for since in (self._last, self._begin))
        print(f"{what}: {step:.2f} ms of CPU time per cell ({whole:.2f} ms up to here)", flush=True)
        self._last = now


if __name__ == "__main__":
    main()
