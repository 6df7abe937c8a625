"""Top-1 and mAP from LoadGen's accuracy log."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmx4trt.errors import DataError
from cmx4trt.networks import network_of
from cmx4trt.verify.accuracy import accuracy_of, read_accuracy_log


@pytest.mark.parametrize("text", ["[\n]", "[", '[{"qsl_idx": 1}]', '[{"qsl_idx": 1, "data": "XY"}]'])
def test_a_log_without_answers_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "log.json"
    path.write_text(text)
    with pytest.raises(DataError, match="accuracy log"):
        read_accuracy_log(str(path))


def test_verdicts_are_given_for_the_complete_set_only() -> None:
    assert accuracy_of(network_of("resnet50"), 75.70, 50000, True).verdict == "passed"
    assert accuracy_of(network_of("resnet50"), 75.68, 50000, True).verdict == "failed"
    partial = accuracy_of(network_of("resnet50"), 99.0, 500, False).to_dict()
    assert partial["verdict"] == "none"
    assert "complete validation set" in partial["note"]
    assert accuracy_of(network_of("retinanet"), 37.20, 24781, True).verdict == "passed"
    assert accuracy_of(network_of("retinanet"), 37.19, 24781, True).verdict == "failed"
