"""The cost of a RetinaNet build compared with the floor: its ten raw heads parsed, built and written by TensorRT-RTX alone.

    python benchmarks/retinanet_build.py [--rounds 5] [--precision fp32] [--model FILE.onnx]

Needs the extra rtx. Without --model the network has random weights. Prints wall and CPU seconds and peak memory of
(a) the floor, (b) `cmx4trt build` without and (c) with verification; then the engines' sizes relative to the weights, and the
scratch memory that the library reports for batch 16. Targets: (b) at most 4 x the floor's wall and 2.5 GB; engine at most 1.1 x
the weights and scratch within 1 % of the heads alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from measure import Case, floor_command, measure, print_table

BATCH, SIZE = 16, 800


def write_model(path: Path) -> None:
    """RetinaNet with random weights, in the form of MLPerf's file."""
    from cmx4trt.ir.onnx_file import encode_model
    from cmx4trt.networks import model_from_seed

    path.write_bytes(encode_model(model_from_seed("retinanet", 0), None).message)


def write_heads(model: Path, path: Path, precision: str) -> int:
    """The heads alone, cut out and cast, as one ONNX file; returns the bytes of its weights."""
    from cmx4trt import BuildRequest
    from cmx4trt.ir.onnx_file import decode_model, encode_model, read_bytes
    from cmx4trt.networks import spec_of
    from cmx4trt.networks.graphs import network_from_model, prepared_from_network

    request = BuildRequest.from_values({"network": "retinanet", "precision": precision, "postprocess": "none"})
    network = network_from_model(decode_model(read_bytes(str(model))), spec_of("retinanet"), request.graph_options())
    graph = prepared_from_network(network, request.graph_options())
    path.write_bytes(encode_model(graph.model, None).message)
    return sum(len(tensor.data) for tensor in graph.encoded.constants.values())


def build_command(model: Path, precision: str, folder: Path, *more: str) -> list[str]:
    flags = ["--network=retinanet", f"--model={model}", f"--precision={precision}", f"--batch_size={BATCH}"]
    return [sys.executable, "-m", "cmx4trt", "build", *flags, "--report=no", f"--output_dir={folder}", *more]


def manifest(folder: Path) -> dict[str, dict[str, float]]:
    """The only manifest below ``folder``."""
    (path,) = folder.rglob("*.json")
    content: dict[str, dict[str, float]] = json.loads(path.read_text())
    return content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "fp16", "bf16"])
    parser.add_argument("--model", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        run(Path(temporary), arguments)


def run(folder: Path, arguments: argparse.Namespace) -> None:
    model, precision = arguments.model, arguments.precision
    if model is None:
        model = folder / "retinanet.onnx"
        write_model(model)
    heads, ours, raw = folder / "heads.onnx", folder / "ours", folder / "raw"
    weights = write_heads(model, heads, precision)

    def empty() -> None:
        shutil.rmtree(ours, ignore_errors=True)

    cases = [
        Case("(a) floor: the raw heads", floor_command(str(heads), str(folder / "floor.plan"), BATCH, SIZE)),
        Case("(b) cmx4trt build, verification off", build_command(model, precision, ours, "--verify=no"), empty),
        Case("(c) cmx4trt build, verification on", build_command(model, precision, ours, "--verify=yes"), empty),
    ]
    runs = measure(cases, arguments.rounds)
    print_table(f"RetinaNet {precision}, batch {BATCH}", runs, cases[0].name)
    measure([Case("raw", build_command(model, precision, raw, "--verify=no", "--postprocess=none"))], 0)
    print_sizes(weights, (folder / "floor.plan").stat().st_size, manifest(raw), manifest(ours))


def print_sizes(weights: int, floor: int, raw: dict[str, dict[str, float]], ours: dict[str, dict[str, float]]) -> None:
    size, key = ours["engine"]["bytes"], "max_scratch_memory_bytes"
    scratch, alone = ours["builder"][key], raw["builder"][key]
    print(f"\n| | MB | x |\n|---|---|---|\n| weights | {weights / 1e6:.1f} | 1 |")
    print(f"| engine of the raw heads | {floor / 1e6:.1f} | {floor / weights:.3f} |")
    print(f"| engine with detections | {size / 1e6:.1f} | {size / weights:.3f} |")
    print(f"| scratch of the raw heads, batch {BATCH} | {alone / 1e6:.1f} | 1 |")
    print(f"| scratch with detections | {scratch / 1e6:.1f} | {scratch / alone:.4f} |")
    verification = ours["verification"]
    print(f"\nverification: {json.dumps(verification)}")


if __name__ == "__main__":
    main()
