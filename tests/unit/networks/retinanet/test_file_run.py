"""What a file gives for each image, however many it takes at a time."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmx4trt.errors import ModelError
from cmx4trt.images.seeded import seeded_images
from cmx4trt.ir.model import Model
from cmx4trt.ir.onnx_file import EncodedGraph, decode_model
from cmx4trt.networks.retinanet.file_run import FileRun


def run(toy_detector: Any, model: Model) -> Any:
    message = toy_detector.message(model)
    details = toy_detector.network(decode_model(message)).details
    return FileRun(EncodedGraph(message, {}), details).run(seeded_images((3, 128, 128), 2))


def test_places_that_are_left_get_images_again(toy_detector: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "data")
    alone = run(toy_detector, toy_detector.model())
    model = toy_detector.model()
    import_module("file_forms").detector_of_batch(model, 3)
    found = run(toy_detector, model)
    assert [len(rows) for rows in (alone, found)] == [2, 3]
    for (detections, heads), (expected, expected_heads) in zip(found, [*alone, alone[0]], strict=True):
        assert len(detections) == len(expected) > 0
        assert (detections.labels == expected.labels).all()
        np.testing.assert_allclose(detections.boxes, expected.boxes, atol=1e-2)
        assert all(heads[name].shape == array.shape for name, array in expected_heads.items())


def test_other_results_are_told(toy_detector: Any) -> None:
    model = toy_detector.model()
    model.graph.outputs = model.graph.outputs[:2]
    with pytest.raises(ModelError, match=r"cannot be compared: got .*, expected boxes \[n, 4\], scores \[n\]"):
        run(toy_detector, model)
