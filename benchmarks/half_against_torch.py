"""Is what verification computes in float16 and bfloat16 what torch computes on the CPU in these types? Layer by layer.

    python benchmarks/half_against_torch.py [--seed 1] [--size 64]

Needs torch. Each layer of a random ResNet-50 gets the same numbers in both; prints how many results differ, and by how many
units in the last place at most.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from cmx4trt.graph.arithmetic import ROUNDINGS, faithful, reduced_values
from cmx4trt.graph.precision import floats_from_tensor
from cmx4trt.ir.model import DType, Graph, Node, ValueInfo
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.networks import model_from_seed, spec_of
from cmx4trt.networks.graphs import network_from_model, prepared_from_network
from cmx4trt.requests.build import BuildRequest
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

TYPES = {"fp16": (DType.FLOAT16, torch.float16), "bf16": (DType.BFLOAT16, torch.bfloat16)}


def values_of(graph: Any, image: np.ndarray) -> dict[str, np.ndarray]:
    """Every value of the graph, as verification computes it."""
    model = faithful(graph.model)
    names = [name for name in reduced_values(graph.model.graph) if name not in graph.model.graph.initializers]
    model.graph.outputs = [ValueInfo(name, DType.FLOAT, None) for name in names]
    return OnnxRuntimeSession.from_graph(encode_model(model)).run({"input": image})


def by_torch(node: Node, graph: Graph, inputs: list[torch.Tensor]) -> torch.Tensor | None:
    """The node's result in the type of its inputs."""
    if node.op_type == "Conv":
        pads = node.ints("pads", [0] * 4)
        return functional.conv2d(*inputs, stride=node.ints("strides", [1, 1]), padding=pads[:2])
    if node.op_type == "Gemm":
        weight = inputs[1] if node.attributes.get("transB", 0) else inputs[1].T
        return functional.linear(inputs[0], weight, inputs[2])
    if node.op_type == "MaxPool":
        return functional.max_pool2d(inputs[0], node.ints("kernel_shape", []), 2, node.ints("pads", [])[:2])
    if node.op_type == "GlobalAveragePool":
        return functional.adaptive_avg_pool2d(inputs[0], 1)
    simple = {"Relu": torch.relu, "Add": torch.add}
    return simple[node.op_type](*inputs) if node.op_type in simple else None


def compare(precision: str, seed: int, size: int) -> str:
    dtype, torch_type = TYPES[precision]
    spec = replace(spec_of("resnet50"), input_shape=(3, size, size))
    model = model_from_seed("resnet50", seed)
    model.graph.inputs[0].dims = ("N", *spec.input_shape)
    options = BuildRequest.from_values({"random_weights": seed, "precision": precision}).graph_options()
    graph = prepared_from_network(network_from_model(model, spec, options), options)
    values = values_of(graph, np.random.default_rng(seed).standard_normal((1, *spec.input_shape), np.float32))
    onnx, layers, different, elements, worst = graph.model.graph, 0, 0, 0, 0.0
    for node in onnx.nodes:
        arrays = [
            floats_from_tensor(onnx.initializers[n]) if n in onnx.initializers else values.get(n) for n in node.inputs
        ]
        if node.outputs[0] not in values or any(array is None for array in arrays):
            continue
        with torch.no_grad():
            found = by_torch(node, onnx, [torch.from_numpy(np.array(array)).to(torch_type) for array in arrays])
        if found is None:
            continue
        own, theirs = values[node.outputs[0]].astype(np.float64), found.float().numpy().astype(np.float64)
        step = (
            2.0 ** np.floor(np.log2(np.maximum(np.maximum(np.abs(own), np.abs(theirs)), 1e-30)))
            * 2
            * ROUNDINGS[dtype].unit
        )
        steps = np.abs(own - theirs) / step
        scale = np.abs(own).max() * ROUNDINGS[dtype].unit
        off = np.minimum(steps, np.abs(own - theirs) / scale)  # where sums cancel, their own last places count
        layers, elements, worst = layers + 1, elements + off.size, max(worst, float(off.max()))
        different += int((off > 0).sum())
    share = f"{different} of {elements} results differ ({different / elements:.2%})"
    return f"{precision}: {layers} layers, {share}, by at most {worst:.2f} units in the last place"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, default=64)
    options = parser.parse_args()
    for precision in TYPES:
        sys.stdout.write(compare(precision, options.seed, options.size) + "\n")


if __name__ == "__main__":
    main()
