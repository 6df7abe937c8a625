"""Does verification accept what is right and refuse what is wrong? Every mistake in every network and precision.

    python benchmarks/mistakes.py --out results.jsonl [--resnets 22] [--detectors 10] [--precisions fp32,fp16,bf16,int8]

Each result is one line of ``results.jsonl``; what is there already is not computed again, so the run can be interrupted. Prints
the table, in Markdown. ResNet-50s have their own layers and images of 64 x 64, which the passes and limits do not know of;
RetinaNets have few channels. All images are made up.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import planted

from cmx4trt.base.progress import Silent
from cmx4trt.errors import CmxError
from cmx4trt.graph.network import PreparedGraph
from cmx4trt.graph.spec import ModelSpec
from cmx4trt.ir.model import Model
from cmx4trt.ir.onnx_file import EncodedGraph, encode_model, with_output
from cmx4trt.networks import spec_of
from cmx4trt.networks.graphs import network_from_model, prepared_from_network
from cmx4trt.pipeline.prepare import Prepared, verify
from cmx4trt.quantize import quantize_network
from cmx4trt.requests.build import BuildRequest

RIGHT = "nothing"
SIZE = 64


def networks(resnets: int, detectors: int) -> Iterator[tuple[str, Model, ModelSpec]]:
    """Name, file and sizes of every network."""
    spec = replace(spec_of("resnet50"), input_shape=(3, SIZE, SIZE))
    for number in range(resnets):
        kind = planted.KINDS[number % len(planted.KINDS)]
        model = planted.resnet50_of(kind, number)
        info = model.graph.inputs[0]
        info.dims = ("N", *spec.input_shape)
        yield f"ResNet-50 {number}: {kind.title}", model, spec
    for number in range(detectors):
        model, topology = planted.small_detector(number)
        yield f"RetinaNet {number}", model, topology.spec()


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
    twin = replace(network, model=network.model.copy(), notes=dict(network.notes))
    report = quantize_network(network, request, Silent())
    quantized = network.model.copy()
    exact = prepared_from_network(twin, options.in_float32())
    return Prepared(prepared_from_network(network, options), exact, report, quantized), request


def with_mistake(graph: PreparedGraph, name: str, seed: int) -> PreparedGraph | None:
    """The graph with a mistake in it, or itself; None where there is no place for the mistake."""
    if name == RIGHT:
        return graph
    model = graph.model.copy()
    if not planted.MISTAKES[name](model.graph, random.Random(f"{name}{seed}")):
        return None
    return replace(graph, model=model, encoded=encode_model(model))


def judged(one: Prepared, graph: PreparedGraph, message: bytes, request: BuildRequest) -> tuple[str, str]:
    """Verdict and sentence; a graph that cannot be run is refused, too."""
    try:
        found = verify(replace(one, graph=graph), lambda name: EncodedGraph(with_output(message, name), {}), request)
    except CmxError as error:
        return "failed", str(error)
    return found.verdict, found.sentence()


def results(options: argparse.Namespace, known: set[tuple[str, str, str]]) -> Iterator[dict[str, str]]:
    """All that is not known yet."""
    cases = [RIGHT, *planted.MISTAKES]
    for number, (title, model, spec) in enumerate(networks(options.resnets, options.detectors)):
        message = encode_model(model, None).message
        for precision in options.precisions.split(","):
            missing = [case for case in cases if (title, precision, case) not in known]
            if not missing:
                continue
            one, request = prepared(model, spec, precision)
            for case in missing:
                graph = with_mistake(one.graph, case, number)
                verdict, sentence = ("no place", "") if graph is None else judged(one, graph, message, request)
                yield {
                    "network": title,
                    "precision": precision,
                    "mistake": case,
                    "verdict": verdict,
                    "sentence": sentence,
                }


def table(rows: list[dict[str, str]], precisions: list[str]) -> str:
    """Refused of planted, by mistake and precision; of what is right, accepted of all."""
    refused: Counter[tuple[str, str]] = Counter()
    planted_there: Counter[tuple[str, str]] = Counter()
    for row in rows:
        key = (row["mistake"], row["precision"])
        planted_there[key] += row["verdict"] != "no place"
        refused[key] += row["verdict"] == "failed"
    lines = ["| | " + " | ".join(precisions) + " |", "|---" * (len(precisions) + 1) + "|"]
    for case in [RIGHT, *planted.MISTAKES]:
        counts = []
        for precision in precisions:
            bad, whole = refused[case, precision], planted_there[case, precision]
            counts.append(f"{bad if case != RIGHT else whole - bad} of {whole}")
        title = "**right graphs, accepted**" if case == RIGHT else f"{case}, refused"
        lines.append(f"| {title} | " + " | ".join(counts) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resnets", type=int, default=22)
    parser.add_argument("--detectors", type=int, default=10)
    parser.add_argument("--precisions", default="fp32,fp16,bf16,int8")
    options = parser.parse_args()
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp()  # calibrations are kept there
    rows = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    known = {(row["network"], row["precision"], row["mistake"]) for row in rows}
    with options.out.open("a") as stream:
        for row in results(options, known):
            rows.append(row)
            stream.write(json.dumps(row) + "\n")
            stream.flush()
            wrong = (row["verdict"] == "failed") == (row["mistake"] == RIGHT) and row["verdict"] != "no place"
            if wrong:
                sys.stderr.write(f"{row}\n")
    sys.stdout.write(table(rows, options.precisions.split(",")) + "\n")


if __name__ == "__main__":
    main()
