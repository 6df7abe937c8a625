"""Detectors that are quantized already: built with their own scales, level by level, and compared with the file."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_memory import InMemory

from cmx4trt import networks
from cmx4trt.base.progress import Silent
from cmx4trt.base.verdicts import FAILED, PASSED
from cmx4trt.errors import ModelError
from cmx4trt.graph.own_quantization import OwnQuantization
from cmx4trt.ir.model import DType, Graph, Model, Node, Tensor
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.networks.retinanet.own_scales import count_behind, own_of_body
from cmx4trt.pipeline.prepare import Prepared, prepare, verify
from cmx4trt.requests.build import BuildRequest


@pytest.fixture
def quantizer(monkeypatch: pytest.MonkeyPatch, toy_detector: Any) -> Iterator[Any]:
    """ONNX Runtime's, with the toy registered as RetinaNet."""
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "data")
    toy = networks.network_of("retinanet").with_spec(toy_detector.spec)
    with networks.registered(toy):
        yield import_module("onnxruntime_quantizer")


def request(folder: Path, model: Model, **values: Any) -> BuildRequest:
    path = folder / "quantized.onnx"
    path.write_bytes(encode_model(model, None).message)
    return BuildRequest.from_values({"network": "retinanet", "precision": "int8", "model": str(path), **values})


def built(folder: Path, model: Model, **values: Any) -> tuple[Prepared, Any]:
    asked, source = request(folder, model, **values), InMemory(model)
    made = prepare(asked, source, Silent())  # type: ignore[arg-type]
    return made, verify(made, source.message, asked)


def scales(graph: Graph) -> dict[str, float]:
    """What each convolution's input is quantized with, by the convolution's name."""
    producers, found = graph.producers(), {}
    for node in graph.nodes:
        before = producers.get(node.inputs[0]) if node.op_type == "Conv" else None
        if before is not None and before.op_type == "DequantizeLinear":
            found[node.name] = float(graph.initializers[before.inputs[1]].numpy())
    return found


@pytest.mark.parametrize("operators", [["Conv"], None], ids=["convolutions", "everything"])
def test_onnxruntimes_file_is_built_with_its_own_scales(
    quantizer: Any, toy_detector: Any, tmp_path: Path, operators: list[str] | None
) -> None:
    options = {"ActivationSymmetric": True}
    model = quantizer.quantized(toy_detector.model(), tmp_path, False, True, True, operators, **options)
    made, found = built(tmp_path, model)
    assert found.verdict == PASSED, found.sentence()
    assert found.float32_graph["verdict"] == PASSED
    assert made.quantization is not None
    assert made.quantization.origin == "the model's own"
    assert int(made.graph.notes["own_ranges_left_out"]) == made.graph.details.rounded_behind > 0  # type: ignore[attr-defined]
    of_file, of_graph = scales(model.graph), scales(made.graph.model.graph)
    assert len(of_graph) == len(of_file)
    for name, scale in of_graph.items():
        assert scale == pytest.approx(of_file[name], rel=1e-3)
    assert len(set(of_graph.values())) > 20  # a head's, too, differ from level to level


def test_a_batch_and_pixels(quantizer: Any, toy_detector: Any, tmp_path: Path) -> None:
    model = toy_detector.model()
    import_module("file_forms").detector_of_batch(model, 2)
    model = quantizer.quantized(model, tmp_path, False, False, True, ["Conv", "Add", "Relu", "MaxPool"])
    made, found = built(tmp_path, model, input_range="0-1")
    assert found.verdict == PASSED, found.sentence()
    assert made.graph.notes["images_at_a_time"] == "2"
    assert made.graph.notes["own_ranges_made_symmetric"]


def heads_apart(model: Model, factor: float) -> None:
    """Each level's class head gets an int8 weight of its own, with a step that is ``factor`` larger from level to level."""
    graph = model.graph
    ends = {name for node in graph.nodes if node.op_type == "Sigmoid" for name in chain(graph, node.inputs[0])}
    heads = [node for node in graph.nodes if node.op_type == "Conv" and node.outputs[0] in ends]
    for level, node in enumerate(heads):
        kernel = graph.initializers[node.inputs[1]].numpy()
        step = np.abs(kernel).max() / 127 * factor**level
        names = [f"level{level}_{end}" for end in ("int8", "step", "zero", "weight")]
        integers = np.clip(np.rint(kernel / step), -127, 127).astype(np.int8)
        for name, value in zip(names, (integers, np.float32(step), np.int8(0)), strict=False):
            graph.initializers[name] = Tensor.from_numpy(name, np.asarray(value))
        graph.nodes.insert(0, Node("DequantizeLinear", names[:3], names[3:], {}, names[3]))
        node.inputs[1] = names[3]


def chain(graph: Graph, value: str) -> list[str]:
    """``value`` and what it is a view of."""
    producers, found = graph.producers(), [value]
    while (node := producers.get(found[-1])) is not None and node.op_type != "Conv":
        found.append(node.inputs[0])
    return found


def test_levels_that_are_rounded_in_other_ways_stay_apart(quantizer: Any, toy_detector: Any, tmp_path: Path) -> None:
    model = quantizer.quantized(toy_detector.model(), tmp_path, False, True, True, ["Conv"], ActivationSymmetric=True)
    heads_apart(float_heads(model), 1.1)
    made, found = built(tmp_path, model)
    assert found.verdict == PASSED, found.sentence()
    steps = {
        float(np.float32(tensor.numpy().reshape(-1)[0]))
        for name, tensor in made.graph.model.graph.initializers.items()
        if name.startswith("level") and "scale" in name and tensor.dtype is DType.FLOAT16
    }
    assert len(steps) == 5


def float_heads(model: Model) -> Model:
    """The weights of the last convolutions as floats again."""
    graph, producers = model.graph, model.graph.producers()
    for node in graph.nodes:
        weight = producers.get(node.inputs[1]) if node.op_type == "Conv" else None
        if weight is not None and weight.op_type == "DequantizeLinear":
            integers, step = (graph.initializers[name].numpy() for name in weight.inputs[:2])
            values = integers.astype(np.float32) * step.reshape(-1, *[1] * (integers.ndim - 1))
            graph.initializers[f"{weight.outputs[0]}_exact"] = Tensor.from_numpy(f"{weight.outputs[0]}_exact", values)
            node.inputs[1] = f"{weight.outputs[0]}_exact"
    return model


def test_other_weights_on_a_level_are_refused(quantizer: Any, toy_detector: Any, tmp_path: Path) -> None:
    model = quantizer.quantized(toy_detector.model(), tmp_path, False, True, True, ["Conv"], ActivationSymmetric=True)
    heads_apart(float_heads(model), 1.0)
    integers = model.graph.initializers["level3_int8"]
    model.graph.initializers["level3_int8"] = Tensor.from_numpy("level3_int8", integers.numpy()[::-1].copy())
    with pytest.raises(
        ModelError, match=r"convolution 2 of the class head on level . .* with weights of its own, need those"
    ):
        built(tmp_path, model)


def test_scales_of_another_file_fail(quantizer: Any, toy_detector: Any, tmp_path: Path) -> None:
    model = quantizer.quantized(toy_detector.model(), tmp_path, False, True, True, ["Conv"], ActivationSymmetric=True)
    asked = request(tmp_path, model)
    made = prepare(asked, InMemory(model), Silent())  # type: ignore[arg-type]
    name = next(n for n, t in model.graph.initializers.items() if n.endswith("_scale") and "Relu" in n and not t.dims)
    model.graph.initializers[name] = Tensor.from_numpy(name, model.graph.initializers[name].numpy() / 64)
    found = verify(made, InMemory(model).message, asked)
    assert found.verdict == FAILED
    assert found.to_dict()["method"].endswith("against the quantized model")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_other_precisions_are_refused(quantizer: Any, toy_detector: Any, tmp_path: Path, precision: str) -> None:
    model = quantizer.quantized(toy_detector.model(), tmp_path, False, True, True, ["Conv"])
    with pytest.raises(ModelError, match=f"quantized already .* in int8, not in {precision}; give --precision=int8"):
        built(tmp_path, model, precision=precision)


def test_heads_of_integers_are_refused(quantizer: Any, toy_detector: Any, tmp_path: Path) -> None:
    model = quantizer.quantized(toy_detector.model(), tmp_path, True, True, True, ["Conv", "Resize"])
    with pytest.raises(ModelError, match=r"operators on integers \(QLinearConv\), which give head tensors of 8 bits"):
        built(tmp_path, model)


def test_what_lies_behind_is_counted_and_left_out() -> None:
    own = OwnQuantization({"a": 1.0, "head": 2.0, "boxes": 3.0}, {}, frozenset())
    body = Graph("body", [Node("Conv", ["a", "w"], ["head"], {}, "head")], {}, [], [])
    assert count_behind(own, {"head", "boxes"}) == 2
    assert count_behind(None, {"head"}) == 0
    assert own_of_body(own, body).scales == {"a": 1.0, "head": 2.0}
