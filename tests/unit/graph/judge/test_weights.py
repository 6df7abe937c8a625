"""Weights that are the file's but for rounding need no comparison, folded ones included; any difference does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cmx4trt.graph.batchnorm import fold_batch_norm
from cmx4trt.graph.execution import own_arithmetic
from cmx4trt.graph.judge import judge_layers
from cmx4trt.graph.judge.correspondence import computed_name
from cmx4trt.graph.judge.reference import Reference
from cmx4trt.graph.judge.weights import is_folded, is_same_but_for_rounding, normalized
from cmx4trt.graph.precision import DTYPES, cast_floats
from cmx4trt.ir.model import DType, Model, Node, Tensor
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

NETWORK = """
    c = Conv(x, w, b)
    n = BatchNormalization(c, gamma, beta, mean, variance)
    r = Relu(n)
    d = Conv(r, v)
    s = Mul(d, factor)
    y = Add(s, offset)
"""
SHAPES = {
    "w": (5, 3, 3, 3),
    "b": (5,),
    "v": (4, 5, 1, 1),
    "factor": (4, 1, 1),
    "offset": (1, 4, 1, 1),
    **dict.fromkeys(("gamma", "beta", "mean", "variance"), (5,)),
}
IMAGE = np.random.default_rng(1).standard_normal((1, 3, 8, 8), dtype=np.float32)


@pytest.fixture
def file(text_model: Any) -> Model:
    model: Model = text_model(NETWORK, shapes=SHAPES, seed=0)
    constants = model.graph.initializers
    constants["variance"] = Tensor.from_numpy("variance", np.linspace(0.5, 2, 5, dtype=np.float32))
    return model


def folded(model: Model, precision: str) -> Model:
    copy = model.copy()
    assert fold_batch_norm(copy.graph) == 3
    cast_floats(copy, DTYPES[precision])
    return copy


def constants_of(graph: Model, value: str) -> list[Tensor]:
    node = graph.graph.producers()[value]
    return [graph.graph.initializers[name] for name in node.inputs[1:]]


def test_the_files_own_operators_say_what_normalization_does(file: Model) -> None:
    found = normalized(file, ["n", "y", "r"], ["n", "y", "r"])
    assert set(found) == {"n", "y"}
    gamma, beta, mean, variance = (file.graph.initializers[n].numpy() for n in ("gamma", "beta", "mean", "variance"))
    scale = gamma / np.sqrt(variance.astype(np.float64) + 1e-5)
    np.testing.assert_allclose(found["n"].scale, scale, rtol=4e-7)
    np.testing.assert_allclose(found["n"].shift, beta - mean * scale, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["y"].scale, file.graph.initializers["factor"].numpy().ravel(), rtol=4e-7)


def test_a_value_in_between_that_the_graph_has_too_is_rounded_there(file: Model) -> None:
    assert set(normalized(file, ["n", "y"], ["n", "y", "c"])) == {"y"}
    assert set(normalized(file, ["n", "y"], ["n", "y", "s"])) == {"n"}


def whole_map(graph: Model) -> None:
    """Another offset for each position."""
    graph.graph.initializers["offset"] = Tensor.from_numpy("offset", np.ones((1, 4, 6, 6), np.float32))


def training_mode(graph: Model) -> None:
    graph.graph.producers()["n"].attributes["training_mode"] = 1


def quotient(graph: Model) -> None:
    graph.graph.nodes[-2] = Node("Div", ["factor", "d"], ["s"], {}, "s")


@pytest.mark.parametrize(("change", "value"), [(whole_map, "y"), (training_mode, "n"), (quotient, "y")])
def test_other_operators_are_no_normalization(file: Model, change: Callable[[Model], None], value: str) -> None:
    change(file)
    assert value not in normalized(file, [value], [value])


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_the_original_multiplies_by_the_folded_weights(file: Model, precision: str) -> None:
    """So its layer is the graph's own, and need not be compared; and what follows gets the same numbers."""
    dtype = DTYPES[precision]
    prepared = folded(file, precision)
    graph = own_arithmetic(prepared)
    reference = Reference(file.copy(), dict.fromkeys(("x", "n", "r", "y"), dtype))
    for value in ("n", "y"):
        names = prepared.graph.producers()[computed_name(prepared.graph, value)].inputs[1:]
        assert reference.use_weights(value, [graph.graph.initializers[name] for name in names], dtype)
        node = reference.producers[value]
        assert (node.op_type, len(node.inputs)) == ("Conv", 3)
    found, _ = reference.run(["y"], (), (), {"x": IMAGE}, 0)
    own = OnnxRuntimeSession.from_graph(encode_model(graph)).run({"x": IMAGE})
    np.testing.assert_allclose(found["y"], own["y"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_folded_network_passes(file: Model, precision: str) -> None:
    found = judge_layers(folded(file, precision), file.copy(), {"y": "y"}, IMAGE)
    assert found.passed, found.sentence()
    assert found.judged == 3


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("value", ["n", "y"])
def test_a_forgotten_bias_is_found_however_small(file: Model, precision: str, value: str) -> None:
    """It comes of the normalization alone, and is less than what rounding explains."""
    constants = file.graph.initializers
    for name, size in (("beta", 1e-4), ("offset", 1e-4), ("mean", 0), ("b", 0)):
        constants[name] = Tensor.from_numpy(name, np.full(constants[name].dims, size, np.float32))
    graph = folded(file, precision)
    graph.graph.producers()[computed_name(graph.graph, value)].inputs.pop()
    graph.graph.prune()
    found = judge_layers(graph, file.copy(), {"y": "y"}, IMAGE)
    assert not found.passed
    assert "has no bias, the original's has one" in found.sentence()


MISTAKES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "one weight": lambda w: w + np.eye(1, w.size, 4, dtype=w.dtype).reshape(w.shape) * w.dtype.type(0.01),
    "a channel": lambda w: (
        w * np.where(np.arange(len(w)) == 3, 1.01, 1).reshape(-1, *[1] * (w.ndim - 1)).astype(w.dtype)
    ),
    "order": lambda w: np.ascontiguousarray(w[::-1]),
    "not a number": lambda w: w * w.dtype.type("nan"),
    "infinite": lambda w: w * w.dtype.type("inf"),
}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("place", [0, 1])
def test_other_weights_or_biases_are_not_folded_ones(file: Model, precision: str, mistake: str, place: int) -> None:
    dtype = DTYPES[precision]
    right = [
        Tensor.from_numpy(t.name, t.numpy().astype(np.float32)) for t in constants_of(folded(file, precision), "n")
    ]
    theirs, constants = normalized(file, ["n"], ["n"])["n"], file.graph.initializers
    assert is_folded(right, theirs, constants, dtype)
    wrong = list(right)
    wrong[place] = Tensor.from_numpy("wrong", MISTAKES[mistake](right[place].numpy()))
    assert not is_folded(wrong, theirs, constants, dtype)
    assert not is_folded(right[:1], theirs, constants, dtype)


def test_an_offset_and_a_mean_that_cancel_each_other(file: Model) -> None:
    """Then the bias is off by more than its own rounding: by that of its terms."""
    scale = normalized(file, ["n"], ["n"])["n"].scale
    constants = file.graph.initializers
    constants["b"] = Tensor.from_numpy("b", np.zeros(5, np.float32))
    constants["mean"] = Tensor.from_numpy("mean", np.full(5, 1234.5, np.float32))
    constants["beta"] = Tensor.from_numpy("beta", np.float32(1234.5) * scale)
    theirs = normalized(file, ["n"], ["n"])["n"]
    for precision in ("fp32", "fp16"):
        own = [
            Tensor.from_numpy(t.name, t.numpy().astype(np.float32)) for t in constants_of(folded(file, precision), "n")
        ]
        assert is_folded(own, theirs, constants, DTYPES[precision])


def test_rounded_weights_are_the_same() -> None:
    exact = np.random.default_rng(0).standard_normal((300, 401), dtype=np.float32)
    exact[0, :3] = 0, 1e-7, -3e-8  # below float16's normal numbers
    tensor = Tensor.from_numpy("w", exact)
    half = exact.astype(np.float16).astype(np.float32)
    assert is_same_but_for_rounding(tensor, Tensor.from_numpy("w", half), DType.FLOAT16)
    assert not is_same_but_for_rounding(tensor, Tensor.from_numpy("w", half), DType.FLOAT)
    assert is_same_but_for_rounding(tensor, tensor, DType.FLOAT)
    for place in ((0, 0), (299, 400), (150, 200)):  # in every part that is compared
        off = half.copy()
        off[place] += 0.01
        assert not is_same_but_for_rounding(tensor, Tensor.from_numpy("w", off), DType.FLOAT16)
    assert not is_same_but_for_rounding(tensor, Tensor.from_numpy("w", half.T.copy()), DType.FLOAT16)
