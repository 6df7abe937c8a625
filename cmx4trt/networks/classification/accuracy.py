"""Top-1 from what was answered; the arithmetic is that of MLPerf's accuracy-imagenet.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cmx4trt.errors import DataError


def top1_of_answers(answers: Mapping[int, bytes], labels: Sequence[int]) -> float:
    """Percent of the samples whose int32 answer is their label. Raises DataError for answers of another kind."""
    import numpy as np

    indices = np.fromiter(answers, np.int64, len(answers))
    if indices.max() >= len(labels):
        raise DataError(
            f"the log answers sample {indices.max()}, but there are {len(labels)} labels; give the labels of the run's data"
        )
    lengths = {len(answer) for answer in answers.values()}
    if lengths != {4}:
        raise DataError(
            f"answers of {sorted(lengths)} bytes, expected 4-byte class indices; is it another model's log?"
        )
    found = np.frombuffer(b"".join(answers.values()), np.int32)
    return float(100.0 * np.mean(found == np.asarray(labels)[indices]))
