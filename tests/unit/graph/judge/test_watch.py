"""Values that are not finite are found in whatever a graph is run for, and named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cmx4trt.graph.judge import NonFinite, WatchedSession
from cmx4trt.graph.precision import DTYPES, cast_floats
from cmx4trt.ir.model import DType, Model, Node, Tensor, ValueInfo
from tests.unit.conftest import RESIDUAL, RESIDUAL_SHAPES

IMAGES = np.random.default_rng(1).standard_normal((2, 3, 8, 8), dtype=np.float32)


def original(text_model: Any) -> Model:
    return text_model(RESIDUAL, shapes=RESIDUAL_SHAPES, seed=0)


def scaled(model: Model, constant: str, factor: float) -> Model:
    tensor = model.graph.initializers[constant]
    model.graph.initializers[constant] = Tensor.from_numpy(constant, tensor.numpy() * np.float32(factor))
    return model


def prepared(model: Model, precision: str) -> Model:
    copy = model.copy()
    cast_floats(copy, DTYPES[precision])
    return copy


def seen(graph: Model, *batches: np.ndarray) -> NonFinite | None:
    session = WatchedSession(graph, ["y"])
    for images in batches or (IMAGES,):
        assert set(session.run({"x": images})) == {"y"}
    return session.non_finite()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_nothing_is_found_where_all_is_finite(text_model: Any, precision: str) -> None:
    assert seen(prepared(original(text_model), precision)) is None


def test_an_overflow_names_the_layer_and_helps(text_model: Any) -> None:
    model = scaled(original(text_model), "w1", 1e5)
    found = seen(prepared(model, "fp16"))
    assert found is not None
    assert found.sentence().startswith("Conv 'c1' overflows float16: ")
    assert found.sentence().endswith("of 1,024 values; build with --precision=bf16 or fp32")
    assert seen(prepared(model, "bf16")) is None
    assert seen(prepared(model, "fp32")) is None


def test_an_original_that_is_not_finite_itself(text_model: Any) -> None:
    found = seen(prepared(scaled(original(text_model), "b1", float("nan")), "fp32"))
    assert found is not None
    assert found.sentence() == "1,024 of 1,024 values of the original model at Conv 'c1' are not a number"


def test_an_overflow_in_any_run_is_found(text_model: Any) -> None:
    """Hidden from the results by the ReLU behind it: only -infinity, and only on the second image."""
    model = original(text_model)
    model.graph.initializers["w1"] = Tensor.from_numpy("w1", -np.abs(model.graph.initializers["w1"].numpy()))
    graph = prepared(model, "fp16")
    quiet, loud = np.abs(IMAGES[:1]), np.minimum(np.abs(IMAGES[1:]), 3) * np.float32(2e4)
    assert seen(graph, quiet) is None
    for batches in ([np.concatenate([quiet, loud])], [quiet, loud]):
        found = seen(graph, *batches)
        assert found is not None
        assert (found.layer, found.dtype) == ("Conv 'c1'", "float16")
        assert found.size == 512 * len(batches[-1])


def test_an_image_that_overflows_is_named(text_model: Any) -> None:
    found = seen(prepared(original(text_model), "fp16"), IMAGES * np.float32(1e6))
    assert found is not None
    assert found.layer.startswith("Cast")


def test_an_output_that_only_its_type_makes_infinite(text_model: Any) -> None:
    """A float32 or bfloat16 network with outputs in float16."""
    model = scaled(scaled(original(text_model), "w6", 1e6), "b6", 0.0)
    graph = model.graph
    graph.rename_value("y", "wide")
    graph.outputs = [ValueInfo("y", DType.FLOAT16, ("N", "K"))]
    graph.nodes.append(Node("Cast", ["wide"], ["y"], {"to": int(DType.FLOAT16)}, "y_cast"))
    session = WatchedSession(model, ["wide"])
    assert session.run({"x": IMAGES})["y"].dtype == np.float16
    found = session.non_finite()
    assert found is not None
    assert (found.layer, found.dtype, found.infinite) == ("Cast 'y_cast'", "float16", True)


def test_a_sum_that_overflows_is_no_overflow(text_model: Any) -> None:
    """In float32 the sum of finite values may be infinite."""
    model = scaled(scaled(original(text_model), "w1", 1e37), "b1", 0.0)
    session = WatchedSession(model, ["c1"], ["c1"])
    values = session.run({"x": IMAGES})["c1"]
    assert np.isfinite(values).all()
    with np.errstate(over="ignore"):
        assert not np.isfinite(np.abs(values).sum(dtype=np.float32))
    assert session.non_finite() is None


def test_values_are_shown_as_float32(text_model: Any) -> None:
    graph = prepared(original(text_model), "fp16")
    session = WatchedSession(graph, ["y"], ["r2"])
    found = session.run({"x": IMAGES})
    assert session.outputs == ("y", "r2") == tuple(found)
    assert found["r2"].dtype == np.float32
    assert (session.inputs, session.input_dtype("x")) == (("x",), "float32")
    assert [info.name for info in graph.graph.outputs] == ["y"], "the graph is not touched"
