"""LoadGen Offline compared with a plain loop over the same session: ONNX Runtime's CUDA provider (or the CPU) with our graphs.

    python benchmarks/gpu_offline.py [--rounds 3] [--seconds 10] [--out FOLDER]

For each model: the graph is prepared with random weights, in float32 and in float16; its answers on the GPU are compared with
those of the original model on the CPU (with the limits of `cmx4trt verify`), and with those of the same graph on the CPU. With
the float16 graph, loop and LoadGen then alternate. NVIDIA_TF32_OVERRIDE=0 prevents TF32 in float32.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")


from cmx4trt.base.progress import Silent
from cmx4trt.bench.datasets import SyntheticImages
from cmx4trt.bench.library import SampleLibrary
from cmx4trt.bench.run import Bench, run_bench
from cmx4trt.bench.settings import BenchSettings
from cmx4trt.bench.sut import Failure
from cmx4trt.graph.execution import open_prepared
from cmx4trt.graph.network import PreparedGraph
from cmx4trt.graph.spec import ModelSpec
from cmx4trt.networks import network_of, spec_of
from cmx4trt.networks.retinanet.detections import detections_from_outputs
from cmx4trt.networks.retinanet.matching import match_by_overlap
from cmx4trt.networks.retinanet.spec import DetectorSpec
from cmx4trt.pipeline.prepare import prepare
from cmx4trt.pipeline.source import source_of_request
from cmx4trt.requests.build import BuildRequest
from cmx4trt.sessions.onnxruntime import fastest_providers
from cmx4trt.verify import Verification, verify_graph

IN_MEMORY = {"resnet50": 1024, "retinanet": 64}
"""Samples in memory, as in MLPerf's mlperf.conf."""
COMPARED = {"resnet50": 32, "retinanet": 2}
"""Number of images whose answers are compared with those of the CPU."""
MATCH_IOU = 0.9


def loop(session: Any, library: SampleLibrary, order: list[int], batch: int, seconds: float) -> float:
    """Samples per second of running batch after batch, without LoadGen."""
    feed = library.feeder(1, batch)
    done, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        first = done % len(order)
        session.run(feed(order[first : first + batch]))
        done += batch
    return done / passed


def same_answers(network: str, gpu: Any, cpu: Any, images: Any) -> dict[str, Any]:
    """The GPU's answers compared with the CPU's, for the same graph."""
    spec = spec_of(network)
    found, wanted = (session.run({session.inputs[0]: images}) for session in (gpu, cpu))
    if not isinstance(spec.details, DetectorSpec):
        logits = wanted["logits"].astype(np.float64)
        error = np.abs(found["logits"] - logits).max() / np.abs(logits).max()
        equal = int((found["class"] == wanted["class"]).sum())
        return {"classes_equal": f"{equal} of {len(images)}", "largest_difference_of_largest_logit": float(error)}
    pairs = total = 0
    for a, b in zip(*(detections_from_outputs(outputs, spec.details) for outputs in (found, wanted)), strict=True):
        pairs += len(match_by_overlap(b, a, MATCH_IOU))
        total += len(b)
    return {"detections_found_again": f"{pairs} of {total} (same label, IoU {MATCH_IOU})"}


@dataclass
class Setup:
    """A model, prepared in one precision, on both processors; ``gpu`` is also the CPU if there is no CUDA provider."""

    request: BuildRequest
    spec: ModelSpec
    graph: PreparedGraph
    gpu: Any
    cpu: Any
    verification: Verification


def prepare_on_both(network: str, precision: str, batch: int) -> Setup:
    values = {"network": network, "random_weights": 1, "batch_size": batch, "precision": precision}
    request = BuildRequest.from_values(values)
    source = source_of_request(request)
    graph = prepare(request, source, Silent()).graph
    gpu, cpu = open_prepared(graph, fastest_providers()), open_prepared(graph)
    return Setup(
        request, spec_of(network), graph, gpu, cpu, verify_graph(graph, source.message, request.graph_options(), gpu)
    )


def compare(setup: Setup) -> dict[str, Any]:
    """The GPU's answers compared with those of the original model, and of the same graph on the CPU."""
    network = setup.request.network
    dataset = SyntheticImages(
        setup.spec, network_of(network).input_form({}, None, setup.request.graph_options()), COMPARED[network]
    )
    images = np.empty((COMPARED[network], *dataset.shape), setup.gpu.input_dtype(setup.gpu.inputs[0]))
    for index in range(len(images)):
        dataset.read(index, images[index])
    return {
        "network": network,
        "precision": setup.request.precision,
        "device": setup.gpu.device,
        "against_the_original_on_the_cpu": {
            "verdict": setup.verification.verdict,
            "measured": setup.verification.sentence(),
        },
        "against_the_same_graph_on_the_cpu": same_answers(network, setup.gpu, setup.cpu, images),
    }


def measure(network: str, batch: int, rounds: int, seconds: float) -> dict[str, Any]:
    print(json.dumps(compare(prepare_on_both(network, "fp32", batch)), indent=1), flush=True)
    setup = prepare_on_both(network, "fp16", batch)
    report: dict[str, Any] = {**compare(setup), "batch": batch}
    print(json.dumps(report, indent=1), flush=True)
    spec, graph, gpu = setup.spec, setup.graph, setup.gpu
    dataset = SyntheticImages(
        spec,
        network_of(network).input_form({}, None, setup.request.graph_options()),
        max(batch, IN_MEMORY[network] // batch * batch),
    )
    library = SampleLibrary(dataset, gpu, Failure())
    order = list(range(len(dataset)))
    library.read(order)
    loop(gpu, library, order, batch, seconds / 5)  # warm
    declared = [{"name": info.name, "shape": info.dims} for info in graph.outputs]
    responder = network_of(network).answers(declared, setup.request.graph_options())(gpu.outputs)
    bench = Bench(gpu, network, responder, dataset, batch, gpu.device)
    loops, runs, valid = [], [], []
    for _ in range(rounds):
        loops.append(loop(gpu, library, order, batch, seconds))
        with tempfile.TemporaryDirectory() as folder:
            conf = Path(folder, "user.conf")
            conf.write_text(f"*.*.performance_sample_count_override = {len(dataset)}\n")
            result = run_bench(bench, BenchSettings("Offline", duration=seconds, user_conf=str(conf)), folder, Silent())
        assert result.metric is not None
        runs.append(float(result.metric.value))
        valid.append(bool(result.valid))
        print(f"loop {loops[-1]:.1f}, LoadGen Offline {runs[-1]:.1f} samples/s, VALID {valid[-1]}", flush=True)
    ratios = [run / alone for run, alone in zip(runs, loops, strict=True)]
    report |= {
        "loop_samples_per_second": statistics.median(loops),
        "loadgen_offline_samples_per_second": statistics.median(runs),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "all_valid": all(valid),
    }
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds of one loop or LoadGen run")
    parser.add_argument("--resnet50", type=int, default=256, metavar="BATCH")
    parser.add_argument("--retinanet", type=int, default=16, metavar="BATCH", help="0 skips the model")
    parser.add_argument("--out", type=Path, help="folder for gpu_offline.json")
    arguments = parser.parse_args()
    reports = []
    for network in ("resnet50", "retinanet"):
        if batch := getattr(arguments, network):
            reports.append(measure(network, batch, arguments.rounds, arguments.seconds))
            print(json.dumps(reports[-1], indent=1), flush=True)
            if arguments.out:
                (arguments.out / "gpu_offline.json").write_text(json.dumps(reports, indent=1))


if __name__ == "__main__":
    main()
