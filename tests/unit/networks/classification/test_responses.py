"""What classifiers answer LoadGen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from answers import Recorder, responder_for

from cmx4trt.networks.classification.responses import ClassResponder

module = pytest.importorskip("mlperf_loadgen", reason="LoadGen is not installed (pip install 'cmx4trt[bench]')")


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize(("classes", "shift"), [(1000, 0), (1001, 1)])
def test_classes_are_int32_without_the_background(dtype: Any, classes: int, shift: int) -> None:
    lg = Recorder(module)
    responder = responder_for("resnet50", ("logits", "class"), classes)(lg, 4)
    outputs = {"class": np.array([5, 1000, 7, 8], dtype)}
    responder.complete([11, 12, 13], [0, 1, 2], outputs)
    assert [(i, np.frombuffer(data, np.int32).tolist()) for i, data in lg.answers] == [
        (11, [5 - shift]),
        (12, [1000 - shift]),
        (13, [7 - shift]),
    ]


def test_responses_are_used_again_for_every_batch() -> None:
    lg = Recorder(module)
    responder = ClassResponder(lg, 2, "class", 0)
    for number in range(3):
        responder.complete([number, 10 + number], [0, 1], {"class": np.array([[number], [number + 1]])})
    assert [(i, np.frombuffer(data, np.int32)[0]) for i, data in lg.answers] == [
        (0, 0),
        (10, 1),
        (1, 1),
        (11, 2),
        (2, 2),
        (12, 3),
    ]
