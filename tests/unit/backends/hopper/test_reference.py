"""The specification against ONNX Runtime over the very graph that was lowered."""

from __future__ import annotations

import numpy as np

from cmx4trt.backends.hopper import reference
from cmx4trt.backends.onnxruntime.session import OnnxRuntimeSession


def test_resnet50_agrees_with_onnx_runtime(hopper_resnet50) -> None:  # type: ignore[no-untyped-def]
    images = np.random.default_rng(7).standard_normal((2, 3, 224, 224)).astype(np.float32)
    expected = OnnxRuntimeSession.from_graph(hopper_resnet50.prepared.encoded).run({"input": images})
    found = reference.run(hopper_resnet50.network, images)
    error = found.logits.astype(np.float64) - expected["logits"]
    assert 10 * np.log10(np.square(expected["logits"]).sum() / np.square(error).sum()) > 35
    assert found.classes.tolist() == expected["class"].tolist()
