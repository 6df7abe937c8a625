"""Top-1 of what was answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmx4trt.errors import DataError
from cmx4trt.networks.classification.accuracy import top1_of_answers
from cmx4trt.verify.accuracy import read_accuracy_log


def log_of(tmp_path: Path, entries: list[tuple[int, Any]]) -> str:
    path = tmp_path / "mlperf_log_accuracy.json"
    rows = [{"seq_id": n, "qsl_idx": i, "data": a.tobytes().hex().upper()} for n, (i, a) in enumerate(entries)]
    path.write_text(json.dumps(rows))
    return str(path)


def classes(*values: int) -> Any:
    return np.array(values, np.int32)


def test_top1_counts_each_sample_once(tmp_path: Path) -> None:
    answers = read_accuracy_log(log_of(tmp_path, [(2, classes(7)), (0, classes(5)), (2, classes(0)), (1, classes(1))]))
    assert top1_of_answers(answers, [5, 6, 7, 8]) == pytest.approx(100 * 2 / 3)


def test_answers_that_are_no_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"answers of \[8\] bytes, expected 4-byte class indices"):
        top1_of_answers(read_accuracy_log(log_of(tmp_path, [(0, classes(1, 2))])), [1])
    with pytest.raises(DataError, match="answers sample 3, but there are 2 labels"):
        top1_of_answers(read_accuracy_log(log_of(tmp_path, [(3, classes(1))])), [1, 2])
