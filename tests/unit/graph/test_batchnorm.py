"""Folding of batch normalisation, against ONNX's reference evaluator on ONNX text."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx.reference
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmx4trt.graph.batchnorm import fold_batch_norm
from cmx4trt.ir.model import Model, Tensor
from cmx4trt.ir.onnx_file import decode_model, encode_model

CHANNELS, GROUP_INPUTS = 4, 2
ONNX_TOLERANCE = 2e-6
"""Folding rounds each weight once more: a few units in the last place of float32 on sums of 18 products."""


def model_from_text(body: str, outputs: str = "y", constants: dict[str, tuple[int, ...]] | None = None) -> Model:
    results = ", ".join(f"float {name}" for name in outputs.split())
    text = f'<ir_version: 9, opset_import: ["" : 17]> g (float[N,4,5,6] x) => ({results}) {{ {body} }}'
    model = decode_model(onnx.parser.parse_model(text).SerializeToString())
    rng = np.random.default_rng(7)
    shapes: dict[str, tuple[int, ...]] = {"w": (CHANNELS, GROUP_INPUTS, 3, 3)}
    shapes |= dict.fromkeys(("mul", "add"), (1, CHANNELS, 1, 1))
    shapes |= dict.fromkeys(("b", "gamma", "beta", "mean", "var"), (CHANNELS,)) | (constants or {})
    for name, shape in shapes.items():
        array = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        model.graph.initializers[name] = Tensor.from_numpy(name, array)
    model.graph.prune()
    return model


def results(model: Model) -> list[np.ndarray]:
    proto = onnx.load_model_from_string(encode_model(model, None).message)
    onnx.checker.check_model(proto)
    x = np.random.default_rng(3).standard_normal((2, 4, 5, 6), dtype=np.float32)
    return onnx.reference.ReferenceEvaluator(proto).run(None, {"x": x})


CONV = "c = Conv<group=2, pads=[1,1,1,1]>(x, w)\n"
FOLDED = {
    "batch norm": (CONV + "y = BatchNormalization<epsilon=0.001>(c, gamma, beta, mean, var)", 1),
    "with a bias": ("c = Conv<group=2>(x, w, b) y = BatchNormalization(c, gamma, beta, mean, var)", 1),
    "frozen": (CONV + "m = Mul(c, mul) y = Add(m, add)", 2),
    "constant first": (CONV + "m = Mul(mul, c) y = Add(add, m)", 2),
    "shift alone": (CONV + "y = Add(c, add)", 1),
    "all three": (CONV + "n = BatchNormalization(c, gamma, beta, mean, var) a = Add(n, add) y = Mul(a, mul)", 3),
}


@pytest.mark.parametrize("name", FOLDED)
def test_folds_and_computes_the_same(name: str) -> None:
    body, folded = FOLDED[name]
    model = model_from_text(body)
    before = results(model)
    assert fold_batch_norm(model.graph) == folded
    assert [node.op_type for node in model.graph.nodes] == ["Conv"]
    atol = ONNX_TOLERANCE * np.abs(before[0]).max()
    np.testing.assert_allclose(results(model)[0], before[0], rtol=ONNX_TOLERANCE, atol=atol)


NOT_FOLDED = {
    "two readers": (CONV + "y = Mul(c, mul) z = Relu(c)", "y z"),
    "conv is an output": (CONV + "y = Mul(c, mul)", "c y"),
    "training": (CONV + "y, m, v = BatchNormalization<training_mode=1>(c, gamma, beta, mean, var)", "y"),
    "two values added": (CONV + "d = Relu(x) y = Add(c, d)", "y"),
    "squared": (CONV + "y = Mul(c, c)", "y"),
    "not behind a convolution": ("r = Relu(x) y = Mul(r, mul)", "y"),
}


@pytest.mark.parametrize("name", NOT_FOLDED)
def test_leaves_alone(name: str) -> None:
    model = model_from_text(*NOT_FOLDED[name])
    nodes = [node.op_type for node in model.graph.nodes]
    assert fold_batch_norm(model.graph) == 0
    assert [node.op_type for node in model.graph.nodes] == nodes


@pytest.mark.parametrize("shape", [(6,), (1, 1, 5, 1), (2, 1, 1, 1), (1, 1, 4, 1, 1)])
def test_leaves_constants_along_other_axes(shape: tuple[int, ...]) -> None:
    model = model_from_text(CONV + "y = Mul(c, mul)", constants={"mul": shape})
    assert fold_batch_norm(model.graph) == 0


@pytest.mark.parametrize("shape", [(), (1,), (4, 1, 1), (1, 1, 1)])
def test_folds_broadcast_constants(shape: tuple[int, ...]) -> None:
    model = model_from_text(CONV + "y = Mul(c, mul)", constants={"mul": shape})
    before = results(model)
    assert fold_batch_norm(model.graph) == 1
    np.testing.assert_allclose(results(model)[0], before[0], rtol=ONNX_TOLERANCE, atol=1e-5)


def test_shared_weights_stay_shared() -> None:
    body = """c1 = Conv<group=2>(x, w) n1 = BatchNormalization(c1, gamma, beta, mean, var) y = Add(n1, add)
              r = Relu(x) c2 = Conv<group=2>(r, w) n2 = BatchNormalization(c2, gamma, beta, mean, var) z = Add(n2, add)
              c3 = Conv<group=2>(r, w) u = Mul(c3, mul)"""
    model = model_from_text(body, "y z u")
    before = results(model)
    assert fold_batch_norm(model.graph) == 5
    first, _, second, third = model.graph.nodes
    assert first.inputs[1:] == second.inputs[1:]
    assert third.inputs[1] != first.inputs[1]
    assert len(model.graph.initializers) == 3
    for got, expected in zip(results(model), before, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["Mul", "Add", "BN", "Relu"]), max_size=5), st.booleans())
def test_any_chain_computes_the_same(ops: list[str], bias: bool) -> None:
    body, value = f"v0 = Conv<group=2>(x, w{', b' if bias else ''})\n", "v0"
    for number, op in enumerate(ops, 1):
        arguments = {"Mul": f"Mul({value}, mul)", "Add": f"Add({value}, add)", "Relu": f"Relu({value})"}
        arguments["BN"] = f"BatchNormalization({value}, gamma, beta, mean, var)"
        value = f"v{number}"
        body += f"{value} = {arguments[op]}\n"
    model = model_from_text(body, value)
    before = results(model)[0]
    assert fold_batch_norm(model.graph) == (ops.index("Relu") if "Relu" in ops else len(ops))
    np.testing.assert_allclose(results(model)[0], before, rtol=1e-5, atol=1e-5 * np.abs(before).max())


@pytest.mark.parametrize("name", FOLDED)
@pytest.mark.parametrize("steps", [np.array([0.01]), np.array([0.01, 0.02, 0.03, 0.04])], ids=["one", "by channel"])
def test_integers_of_quantized_weights_stay(name: str, steps: np.ndarray) -> None:
    """Factors, negative ones too, change what a step is worth."""
    model = model_from_text(FOLDED[name][0])
    constants = model.graph.initializers
    integers = np.random.default_rng(1).integers(-100, 101, constants["w"].dims)
    weight = (integers * steps.reshape(-1, 1, 1, 1)).astype(np.float32)
    constants["w"] = Tensor.from_numpy("w", weight)
    if "mul" in constants:
        constants["mul"] = Tensor.from_numpy("mul", -constants["mul"].numpy())
    known = {"w": steps}
    fold_batch_norm(model.graph, known)
    folded = model.graph.nodes[0].inputs[1]
    found = np.rint(model.graph.initializers[folded].numpy() / known[folded].reshape(-1, 1, 1, 1))
    assert (np.abs(found) == np.abs(integers)).all()
