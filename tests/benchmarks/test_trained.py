"""A detector as train_retinanet.py writes it is read, answers, and is measured by int8_accuracy.py's figures."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.networks.retinanet.detections import Detections
from cmx4trt.networks.retinanet.random_weights import Topology, model_from_seed
from cmx4trt.networks.retinanet.spec import Body, DetectorSpec

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SIZE = 128


@pytest.fixture(scope="module")
def trained() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        return import_module("trained")


@pytest.fixture
def detector(trained: Any, tmp_path: Path) -> Any:
    body = Body(stem=4, blocks=(1, 1, 1, 1), width=4, groups=2, pyramid=4, tower=1)
    model = model_from_seed(1, Topology(SIZE, body, DetectorSpec(classes=5)))
    (tmp_path / "retinanet.onnx").write_bytes(encode_model(model, None).message)
    facts = {"size": SIZE, "body": asdict(body), "classes": 5, "held_out_seed": 51}
    (tmp_path / "retinanet.json").write_text(json.dumps(facts))
    return trained.read_trained(tmp_path)


def test_equal_outputs_have_no_error_and_others_theirs(detector: Any) -> None:
    from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

    images, truth = detector.images(51, 0, 2, 1.0)
    session = OnnxRuntimeSession.from_graph(encode_model(detector.network().model))
    outputs = session.run({"input": images})
    exact = detector.answers(outputs, outputs)
    assert [answer.error for answer in exact] == [0, 0]
    assert exact[0].sqnr == pytest.approx(150)
    assert detector.scores(exact, exact, truth)[1] in (0.0, 1.0)
    # Ten per cent off, the prior included: the logits without it are what the error is compared with.
    louder = detector.answers(outputs, {name: value * np.float32(1.1) for name, value in outputs.items()})
    assert louder[0].sqnr < 20


def test_precision_is_perfect_for_the_truth_and_less_for_moved_boxes(trained: Any, detector: Any) -> None:
    _, truth = detector.images(51, 0, 6, 1.0)
    found = [Detections(b, np.ones(len(k), np.float32), k.astype(np.int32)) for b, k in truth]
    moved = [Detections(f.boxes + np.float32(2), f.scores, f.labels) for f in found]
    pytest.importorskip("pycocotools")
    assert trained.mean_average_precision(found, truth, detector.facts) == pytest.approx(100)
    assert trained.mean_average_precision(moved, truth, detector.facts) < 80
