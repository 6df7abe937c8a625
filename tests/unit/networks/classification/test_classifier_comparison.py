"""The verdict on a classifier: right graphs pass whatever their images' range, and the images are those the network takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cmx4trt.graph.judge import LayerJudgement
from cmx4trt.images.normalization import IMAGENET_MEAN, IMAGENET_STD, InputForm
from cmx4trt.images.seeded import seeded_images
from cmx4trt.ir.model import Model, Tensor
from cmx4trt.networks.classification.comparison import Comparison, compare_classifiers
from cmx4trt.networks.classification.images import images_as_fed

PIXELS = InputForm((0.5, 0.45, 0.4), (1 / 255,) * 3)
UNITS = InputForm(IMAGENET_MEAN, IMAGENET_STD)
JUDGED = LayerJudgement(1, 2, 2, "Conv 'a'", 0.1, 0, "", 0.0)


class Answers:
    """A session that has its logits ready."""

    inputs, max_batch = ("x",), None

    def __init__(self, logits: np.ndarray) -> None:
        self._logits = logits

    def input_dtype(self, name: str) -> str:
        return "float32"

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"logits": self._logits, "class": self._logits.argmax(axis=1)}


EXPECTED = np.array([[1.0, 2.0, 4.0], [3.0, 1.0, -1.0]], np.float32)


def compared(found: np.ndarray, rounded: np.ndarray) -> Comparison:
    return compare_classifiers(EXPECTED, rounded, Answers(found), np.zeros((2, 3, 4, 4), np.float32), "y")  # type: ignore[arg-type]


def test_the_limit_follows_from_what_the_original_loses() -> None:
    rounded = EXPECTED[:1] * np.float32(1.001)
    assert compared(EXPECTED * np.float32(1.005), rounded).passed
    found = compared(EXPECTED * np.float32(1.02), rounded)
    assert not found.passed
    assert found.limit == pytest.approx(0.01, rel=1e-3)
    assert "relative L2 error 2.00e-02 (limit 0.01)" in found.sentence()
    assert compared(EXPECTED, EXPECTED[:1]).limit == 1e-5


def test_a_frozen_batch_fails_however_much_is_lost() -> None:
    frozen = EXPECTED[[0, 0]]
    assert not compared(frozen, EXPECTED[:1] + np.float32(0.4)).passed
    assert not compared(frozen, EXPECTED[:1]).passed


def test_a_nan_fails() -> None:
    found = EXPECTED.copy()
    found[1, 1] = np.nan
    assert not compared(found, EXPECTED[:1] * np.float32(2)).passed


def test_a_wrong_layer_fails_and_is_named() -> None:
    found = replace(compared(EXPECTED, EXPECTED[:1]), layers=JUDGED)
    assert found.passed
    assert found.to_dict()["layers"]["judged"] == 2
    wrong = replace(found, layers=replace(JUDGED, failed=1, first="Conv 'b'", first_excess=7.0))
    assert not wrong.passed
    assert wrong.sentence() == "Conv 'b' differs from the original by 7 times what rounding explains"


@pytest.mark.parametrize("form", [PIXELS, UNITS])
def test_images_are_those_that_the_first_layer_is_made_for(text_model: Any, form: InputForm) -> None:
    model: Model = text_model("y = Conv (x, w)", shapes={"w": (8, 3, 3, 3)})
    pixels = seeded_images((3, 64, 64), 1)
    scale = np.float32(1 / form.normalize(pixels).std())
    model.graph.initializers["w"] = Tensor.from_numpy("w", model.graph.initializers["w"].numpy() * scale)
    images = images_as_fed(model, (3, 64, 64), 2, (PIXELS, UNITS))
    assert np.array_equal(images, form.normalize(seeded_images((3, 64, 64), 2)))
