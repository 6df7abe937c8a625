"""Detectors in float16 and bfloat16, with channels last, and quantized."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from cmx4trt.base.verdicts import FAILED, PASSED
from cmx4trt.errors import ModelError
from cmx4trt.ir.model import DType, Model
from cmx4trt.ir.onnx_file import EncodedGraph, decode_model, with_output
from cmx4trt.networks.retinanet.comparison import verify_detector


@pytest.fixture
def forms(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "data")
    return import_module("file_forms")


def compared(toy_detector: Any, model: Model, precision: str) -> Any:
    content = toy_detector.message(model)
    made = toy_detector.prepared(decode_model(content), precision=precision)
    options = toy_detector.request(precision=precision).graph_options()
    return verify_detector(made, lambda name: EncodedGraph(with_output(content, name), {}), options)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.BFLOAT16], ids=lambda dtype: dtype.name.lower())
def test_a_file_in_a_reduced_type(toy_detector: Any, forms: Any, precision: str, dtype: DType) -> None:
    model = toy_detector.model()
    forms.detector_in(model, dtype)
    found = compared(toy_detector, model, precision)
    assert found.verdict == PASSED, found.sentence()


def test_a_channels_last_input(toy_detector: Any, forms: Any) -> None:
    model = toy_detector.model()
    forms.nhwc_input(model)
    found = compared(toy_detector, model, "fp32")
    assert found.verdict == PASSED, found.sentence()


@pytest.mark.parametrize("separate", [False, True], ids=["one input", "an input each"])
@pytest.mark.parametrize("images", [1, 2, 3])
def test_a_file_of_several_images(toy_detector: Any, forms: Any, images: int, separate: bool) -> None:
    model = toy_detector.model()
    forms.detector_of_batch(model, images, separate)
    made, alone = toy_detector.prepared(model.copy()), toy_detector.prepared(toy_detector.model())
    assert made.encoded.message == alone.encoded.message
    assert made.notes.get("images_at_a_time") == (str(images) if images > 1 else None)
    assert made.notes.get("image_inputs_stacked") == (str(images) if separate else None)
    found = compared(toy_detector, model, "fp16")
    assert found.verdict == PASSED, found.sentence()
    assert found.expected == compared(toy_detector, toy_detector.model(), "fp16").expected > 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_float16_file_of_several_images(toy_detector: Any, forms: Any, precision: str) -> None:
    model = toy_detector.model()
    forms.detector_of_batch(model, 2)
    forms.detector_in(model, DType.FLOAT16)
    found = compared(toy_detector, model, precision)
    assert found.verdict == PASSED, found.sentence()


def test_detections_of_another_image_are_noticed(toy_detector: Any, forms: Any) -> None:
    """In the last place, which the comparison's own images leave to one that was there before."""
    model = toy_detector.model()
    forms.detector_of_batch(model, 3)
    outputs = model.graph.outputs
    outputs[3:6], outputs[6:9] = outputs[6:9], outputs[3:6]
    found = compared(toy_detector, model, "fp32")
    assert found.verdict == FAILED
    assert "not those that its heads lead to" in found.sentence()


def test_images_that_differ_in_their_post_processing_are_told(toy_detector: Any, forms: Any) -> None:
    model = toy_detector.model()
    forms.detector_of_batch(model, 2)
    forms.keep(model.graph, "stricter", 0.75, forms.np.float32)
    [*_, last] = [node for node in model.graph.nodes if node.op_type == "NonMaxSuppression"]
    last.inputs[3] = "stricter"
    iou = toy_detector.detector.iou_threshold
    with pytest.raises(ModelError, match=f"the IoU threshold .* cannot be read: found {iou} and 0.75, expected one"):
        toy_detector.network(model)
