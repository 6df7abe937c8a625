"""A quantized file in floats: the same values without the rounding, under the same names."""

from __future__ import annotations

import numpy as np

from cmx4trt.graph.without_pairs import without_pairs
from cmx4trt.ir.model import DType, Graph, Model, Node, Tensor, ValueInfo
from cmx4trt.ir.onnx_file import EncodedGraph, encode_model, with_output
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession


def quantized_file(output: str) -> EncodedGraph:
    """x -> Q/DQ -> Mul by two -> Q/DQ, whose result is the file's."""
    constants = {"step": np.float32(0.5), "zero": np.int8(0), "two": np.float32(2)}
    nodes = [
        Node("QuantizeLinear", ["x", "step", "zero"], ["x_q"], {}, "q1"),
        Node("DequantizeLinear", ["x_q", "step", "zero"], ["x_dq"], {}, "dq1"),
        Node("Mul", ["x_dq", "two"], ["twice"], {}, "mul"),
        Node("QuantizeLinear", ["twice", "step", "zero"], ["y_q"], {}, "q2"),
        Node("DequantizeLinear", ["y_q", "step", "zero"], ["y"], {}, "dq2"),
    ]
    tensors = {name: Tensor.from_numpy(name, np.asarray(value)) for name, value in constants.items()}
    graph = Graph("pairs", nodes, tensors, [ValueInfo("x", DType.FLOAT, (3,))], [ValueInfo("y", DType.FLOAT, (3,))])
    return EncodedGraph(with_output(encode_model(Model(graph, {"": 17}, 8), None).message, output), {})


def run(file: EncodedGraph) -> dict[str, list[float]]:
    session = OnnxRuntimeSession.from_bytes(file.message, constants=file.constants)
    results = session.run({"x": np.array([0.1, 0.3, -0.7], np.float32)})
    return {name: np.round(values, 4).tolist() for name, values in results.items()}


def test_nothing_is_rounded_and_names_stay() -> None:
    assert run(quantized_file("twice")) == {"y": [0.0, 1.0, -1.0], "twice": [0.0, 1.0, -1.0]}
    exact = np.array([0.2, 0.6, -1.4], np.float32).tolist()
    assert run(without_pairs(quantized_file)("twice")) == {"y": exact, "twice": exact}
