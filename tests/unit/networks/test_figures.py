"""What was measured, written into manifests and read back."""

from __future__ import annotations

import pytest

from cmx4trt.base.typed import WrongRecordError
from cmx4trt.networks.figures import ClassFigures, DetectionFigures, Int8Figures, LayerFigures, figures_of

LAYERS = LayerFigures(judged=120, layers=121, error_over_bound=0.25)
CLASSES = ClassFigures(0.001, "passed", "compared", images=2, relative_l2_limit=0.005, classes_agree=2, layers=LAYERS)
DETECTIONS = DetectionFigures(2000, "passed", images=2, matched=0.99, head_error=0.001)
INT8 = Int8Figures({"logits": 26.1, "exact": None}, images=8, verdict="passed", float32_graph=CLASSES.to_dict())


@pytest.mark.parametrize("figures", [CLASSES, DETECTIONS, INT8], ids=["classes", "detections", "int8"])
def test_a_record_says_what_it_is(figures: ClassFigures | DetectionFigures | Int8Figures) -> None:
    assert figures_of(figures.to_dict()) == figures
    ran = {**figures.to_dict(), "engine_executed_on_a_device": "yes", "device": "NVIDIA L4"}
    assert type(figures_of(ran)) is type(figures), "the engine that ran is recorded with the same figures"


def test_names_in_manifests_are_those_of_former_releases() -> None:
    assert DETECTIONS.to_dict()["matched_fraction_at_iou_0.9"] == 0.99
    assert "matched_fraction_limit" not in DETECTIONS.to_dict()
    assert CLASSES.to_dict()["layers"] == {"judged": 120, "layers": 121, "error_over_bound": 0.25}


def test_an_int8_record_holds_that_of_the_float32_network() -> None:
    assert INT8.float32 == CLASSES
    assert Int8Figures({}).float32 is None


def test_what_holds_no_figures_is_none() -> None:
    assert figures_of({"verdict": "skipped", "reason": "verification was switched off"}) is None


def test_values_of_another_type_are_named() -> None:
    with pytest.raises(WrongRecordError, match=r"sqnr_db\.logits is 'much', expected a number"):
        figures_of({"sqnr_db": {"logits": "much"}})
