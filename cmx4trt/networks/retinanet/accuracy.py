"""Mean average precision from what was answered; the arithmetic is that of MLPerf's accuracy-openimages.py."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cmx4trt.base.install import pip_line
from cmx4trt.errors import DataError, MissingSoftwareError
from cmx4trt.networks.retinanet.detections import RECORD

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_UNDEFINED = -1.0
"""pycocotools' mean over no category that has an object (cocoeval.py, summarize)."""


def map_of_answers(
    answers: Mapping[int, bytes], annotations: Mapping[str, Any], positions: Sequence[int]
) -> float | None:
    """Mean average precision in percent (COCO's: IoU 0.50 … 0.95) of the answered samples; None where no object is annotated
    in their images (crowds do not count), so that there is nothing to find.

    ``annotations``: a checked file in COCO's format (see ``annotations``); ``positions``: for each sample its
    place among the file's images. Labels are category ids as they are. Raises DataError, MissingSoftwareError.
    """
    coco_class, evaluation_class = import_pycocotools()
    images: list[Mapping[str, Any]] = annotations["images"]
    for index in answers:
        if index >= len(positions) or positions[index] >= len(images):
            raise DataError(
                f"the log answers sample {index}, for which the annotation file has no image; give the labels of the run's data"
            )
    found = _concatenate([_coco_rows(answer, images[positions[index]], index) for index, answer in answers.items()])
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        truth = coco_class()
        truth.dataset = annotations
        truth.createIndex()
        results = truth.loadRes(found) if len(found) else coco_class()  # loadRes takes no empty array
        evaluation = evaluation_class(truth, results, iouType="bbox")
        evaluation.params.imgIds = [images[positions[index]]["id"] for index in answers]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = float(evaluation.stats[0])
    return None if precision == _UNDEFINED else 100.0 * precision


def _coco_rows(answer: bytes, image: Mapping[str, Any], index: int) -> NDArray[np.float64]:
    """One image's detections [D, 7] as pycocotools takes them: image id, x, y, width, height in pixels, score, category."""
    import numpy as np

    if len(answer) % (4 * RECORD):
        raise DataError(f"the answer for sample {index} has {len(answer)} bytes, expected a multiple of {4 * RECORD}")
    records = np.frombuffer(answer, np.float32).reshape(-1, RECORD).astype(np.float64)
    if len(records) and (records[:, 0] != index).any():
        raise DataError(
            f"the answer for sample {index} refers to sample {records[0, 0]:g}; the log is not from this run"
        )
    height, width = image["height"], image["width"]
    y1, x1, y2, x2 = records[:, 1] * height, records[:, 2] * width, records[:, 3] * height, records[:, 4] * width
    ids = np.full(len(records), image["id"], np.float64)
    return np.column_stack([ids, x1, y1, x2 - x1, y2 - y1, records[:, 5], records[:, 6]])


def _concatenate(rows: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    import numpy as np

    return np.concatenate(rows)


def import_pycocotools() -> tuple[Any, Any]:
    """The classes COCO and COCOeval. Raises MissingSoftwareError."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise MissingSoftwareError(f"pycocotools cannot be imported ({error}); {pip_line('bench')}") from error
    return COCO, COCOeval
