"""Does verification accept what is right and refuse what is wrong? Every mistake in every network and precision.

    python benchmarks/mistakes.py --out results.jsonl [--processes 60] [--seconds 540] [--precisions fp32,fp16,bf16,int8]
        [--trained FOLDER …] [--retinanet_file FILE …] [--resnets 16] [--detectors 12] [--no_torch] [--only WORDS …]

Each result is one line of ``results.jsonl``; what is there already is not computed again, so the run can be interrupted, or
stops itself (``--seconds``). Every network in one precision is a process of its own on a core of its own. Prints the tables, in
Markdown; says what is missing in them, and then ends with status 1. The networks are those of judged_networks.py; classifiers
take images of 64 x 64 where the file does not say 224, which the passes and limits do not know of. All images are made up.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Timer
from typing import IO, Any

import judged_networks
import mistake_tables
import planted
from judged_networks import Candidate
from mistake_tables import RIGHT, Row

from cmx4trt.base.progress import Silent
from cmx4trt.errors import CmxError
from cmx4trt.graph.network import PreparedGraph
from cmx4trt.graph.spec import ModelSpec
from cmx4trt.ir.model import Model
from cmx4trt.ir.onnx_file import EncodedGraph, encode_model, with_output
from cmx4trt.networks.graphs import network_from_model, prepared_from_network
from cmx4trt.pipeline.prepare import Prepared, verify
from cmx4trt.quantize import quantize_network
from cmx4trt.requests.build import BuildRequest

CASES = [RIGHT, *planted.MISTAKES]
PRECISIONS = "fp32,fp16,bf16,int8"


@dataclass(frozen=True)
class Unit:
    """What one process computes."""

    network: str
    precision: str
    cases: list[str]


def prepared(model: Model, spec: ModelSpec, precision: str) -> tuple[Prepared, BuildRequest]:
    """As ``pipeline.prepare``, in other sizes."""
    values: dict[str, Any] = {"network": spec.name, "random_weights": 0, "precision": precision}
    if precision == "int8":
        values |= {"calibration_data": "random", "calibration_count": 2, "calibration_method": "minmax"}
    request = BuildRequest.from_values(values)
    options = request.graph_options()
    network = network_from_model(model.copy(), spec, options)
    if precision != "int8":
        return Prepared(prepared_from_network(network, options)), request
    twin = network.copy()
    report = quantize_network(network, request, Silent())
    quantized = network.model.copy()
    exact = prepared_from_network(twin, options.in_float32())
    return Prepared(prepared_from_network(network, options), exact, report, quantized), request


def with_mistake(graph: PreparedGraph, name: str, seed: str) -> PreparedGraph | None:
    """The graph with a mistake in it, or itself; None where there is no place for the mistake."""
    if name == RIGHT:
        return graph
    model = graph.model.copy()
    if not planted.MISTAKES[name](model.graph, random.Random(f"{name}{seed}")):
        return None
    model.graph.prune()  # ONNX Runtime refuses to load constants that nothing reads, which would count as found
    return replace(graph, model=model, encoded=encode_model(model))


def judged(one: Prepared, graph: PreparedGraph, message: bytes, request: BuildRequest) -> tuple[str, str]:
    """Verdict and sentence; a graph that cannot be run is refused, too."""
    try:
        found = verify(replace(one, graph=graph), lambda name: EncodedGraph(with_output(message, name), {}), request)
    except CmxError as error:
        return "failed", str(error)
    return found.verdict, found.sentence()


def results(candidate: Candidate, unit: Unit) -> Iterator[Row]:
    """One for each case; a network that is not even imported is refused in all of them."""
    model, spec = candidate.make()
    message = encode_model(model, None).message
    refusal, one, request = "", None, None
    try:
        one, request = prepared(model, spec, unit.precision)
    except CmxError as error:
        refusal = str(error)
    for case in unit.cases:
        begun = time.process_time()
        graph = with_mistake(one.graph, case, unit.network) if one is not None else None
        if graph is None or one is None or request is None:
            verdict, sentence = ("failed", refusal) if refusal and case == RIGHT else ("no place", refusal)
        else:
            verdict, sentence = judged(one, graph, message, request)
        yield {
            "network": unit.network,
            "origin": candidate.origin,
            "precision": unit.precision,
            "mistake": case,
            "verdict": verdict,
            "sentence": sentence,
            "cpu_seconds": round(time.process_time() - begun, 1),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }


def units(networks: Sequence[Candidate], precisions: Sequence[str], known: set[tuple[str, str, str]]) -> list[Unit]:
    """All that is not known yet; a large network's cases are spread."""
    found = []
    for network in networks:
        for precision in precisions:
            missing = [case for case in CASES if (network.title, precision, case) not in known]
            step = network.cases_at_a_time
            found += [
                Unit(network.title, precision, missing[start : start + step]) for start in range(0, len(missing), step)
            ]
    return found


class _Run:
    """Processes beside each other, whose results come into one file."""

    def __init__(self, options: argparse.Namespace, out: IO[str], rows: list[Row]) -> None:
        self._out, self._rows, self._lock = out, rows, Lock()
        self._end = time.monotonic() + options.seconds
        self._command = [sys.executable, __file__, *sys.argv[1:], "--unit"]
        self._cores: SimpleQueue[int] = SimpleQueue()
        cores = sorted(os.sched_getaffinity(0))
        for number in range(options.processes):
            self._cores.put(cores[number % len(cores)])
        self._processes = options.processes

    def run(self, work: Sequence[Unit]) -> None:
        """Compute what fits into the time."""
        with ThreadPoolExecutor(self._processes) as pool:
            list(pool.map(self._run_unit, work))

    def _run_unit(self, unit: Unit) -> None:
        left = self._end - time.monotonic()
        if left <= 0:
            return
        core = self._cores.get()
        command = [*self._command, json.dumps({**asdict(unit), "core": core})]
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
            timer = Timer(left, process.kill)
            timer.start()
            assert process.stdout is not None
            for line in process.stdout:
                self._keep(line)
            status = process.wait()
            timer.cancel()
            self._cores.put(core)
            if status and time.monotonic() < self._end:
                errors.seek(0)
                last = "".join(errors.readlines()[-3:]).strip()
                sys.stderr.write(f"{unit.network}, {unit.precision}: ended with status {status}: {last}\n")

    def _keep(self, line: str) -> None:
        if not line.endswith("}\n"):
            return  # cut off when its process was ended
        row: Row = json.loads(line)
        with self._lock:
            self._rows.append(row)
            self._out.write(line)
            self._out.flush()
            if mistake_tables.is_wrong(row):
                sys.stderr.write(line)
                sys.stderr.flush()


def compute(unit: dict[str, Any], networks: Sequence[Candidate]) -> None:
    """In a process of its own, on one core: one line for each result."""
    os.sched_setaffinity(0, {unit.pop("core")})
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # exporters are talkative
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder  # calibrations are kept there
        wanted = Unit(**unit)
        candidate = next(network for network in networks if network.title == wanted.network)
        for row in results(candidate, wanted):
            lines.write(json.dumps(row) + "\n")
            lines.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--precisions", default=PRECISIONS)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9, help="end after so much time; a later run goes on")
    parser.add_argument("--only", nargs="*", default=[], help="networks with one of these words in their titles")
    parser.add_argument("--unit", help=argparse.SUPPRESS)
    judged_networks.add_options(parser)
    options = parser.parse_args()
    every = judged_networks.candidates(options)
    if options.only:
        every = [network for network in every if any(words in network.title for words in options.only)]
    if options.unit is not None:
        compute(json.loads(options.unit), every)
        return 0
    there = [network for network in every if not network.missing()]
    precisions = options.precisions.split(",")
    wanted = {(network.title, precision, case) for network in there for precision in precisions for case in CASES}
    rows = mistake_tables.read_rows(options.out)
    known = {mistake_tables.key(row) for row in rows}
    with options.out.open("a") as stream:
        _Run(options, stream, rows).run(units(there, precisions, known))
    chosen = [row for row in rows if mistake_tables.key(row) in wanted]
    left_out = {network.title: network.missing() for network in every if network.missing()}
    sys.stdout.write(mistake_tables.report(chosen, precisions, CASES, len(wanted), left_out))
    return 0 if len(chosen) == len(wanted) and not left_out else 1


if __name__ == "__main__":
    sys.exit(main())
