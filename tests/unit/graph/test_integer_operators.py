"""What stands for an operator on integers gives the integers that it gives."""

from __future__ import annotations

import numpy as np
import pytest

from cmx4trt.errors import ModelError
from cmx4trt.graph.integer_operators import is_integer_operator, split_integers
from cmx4trt.ir.model import DType, Graph, Model, Node, Tensor, ValueInfo
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession


def file_of_integers() -> Model:
    """uint8 [1, 3, 8, 8] -> a convolution with a bias, a pooling of integers, and a float."""
    rng = np.random.default_rng(0)
    steps = np.array([0.01, 0.02, 0.03, 0.04], np.float32)
    constants = {
        "x_scale": np.float32(0.05),
        "x_zero": np.uint8(7),
        "w": rng.integers(-127, 128, (4, 3, 3, 3), dtype=np.int8),
        "w_scale": steps,
        "w_zero": np.zeros(4, np.int8),
        "y_scale": np.float32(0.1),
        "y_zero": np.uint8(100),
        "b": rng.integers(-900, 900, 4, dtype=np.int32),
    }
    inputs = ["x_q", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero", "b"]
    nodes = [
        Node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["x_q"], {}, "quantize"),
        Node("QLinearConv", inputs, ["y_q"], {"kernel_shape": [3, 3]}, "conv"),
        Node("MaxPool", ["y_q"], ["p_q"], {"kernel_shape": [2, 2]}, "pool"),
        Node("DequantizeLinear", ["p_q", "y_scale", "y_zero"], ["p"], {}, "pooled"),
        Node("DequantizeLinear", ["y_q", "y_scale", "y_zero"], ["y"], {}, "convolved"),
    ]
    tensors = {name: Tensor.from_numpy(name, np.asarray(value)) for name, value in constants.items()}
    outputs = [ValueInfo(name, DType.FLOAT, None) for name in ("p", "y")]
    return Model(Graph("integers", nodes, tensors, [ValueInfo("x", DType.FLOAT, (1, 3, 8, 8))], outputs), {"": 17}, 8)


def run(model: Model) -> dict[str, np.ndarray]:
    image = np.random.default_rng(1).standard_normal((1, 3, 8, 8), dtype=np.float32) * 3
    session = OnnxRuntimeSession.from_graph(encode_model(model))
    results = session.run({"x": image})
    return {"p": results[model.graph.outputs[0].name], "y": results[model.graph.outputs[1].name]}


def test_the_same_integers_come_out() -> None:
    model = file_of_integers()
    expected = run(model)
    assert split_integers(model.graph) == 1
    assert not any(is_integer_operator(node) for node in model.graph.nodes)
    found = run(model)
    for name in expected:
        assert np.abs(found[name] - expected[name]).max() <= 0.1 * 1.001  # one step, where a sum lies between two
        assert (found[name] == expected[name]).mean() > 0.99


def test_a_result_has_the_name_that_the_file_has_for_its_floats() -> None:
    model = file_of_integers()
    split_integers(model.graph)
    assert model.graph.producers()["y"].op_type == "Conv"
    assert "y" not in {info.name for info in model.graph.outputs}  # which is what comes back of the integers


def test_floats_are_left_alone() -> None:
    graph = Graph("floats", [Node("Relu", ["x"], ["y"], {}, "relu")], {}, [], [])
    assert split_integers(graph) == 0


def test_a_computed_scale_of_a_bias_is_refused() -> None:
    model = file_of_integers()
    del model.graph.initializers["w_scale"]
    with pytest.raises(ModelError, match="QLinearConv 'conv' has a computed scale, expected constants"):
        split_integers(model.graph)


@pytest.mark.parametrize("name", ["ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "QLinearSigmoid"])
def test_others_are_told(name: str) -> None:
    assert is_integer_operator(Node(name, [], [], {}, ""))


def test_means_of_channels_last_are_none_of_ours() -> None:
    node = Node("QLinearGlobalAveragePool", ["x", "s", "z", "s", "z"], ["y"], {"channels_last": 1}, "mean")
    assert split_integers(Graph("mean", [node], {}, [], [])) == 0
    assert is_integer_operator(node)
