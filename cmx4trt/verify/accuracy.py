"""Accuracy from LoadGen's accuracy log: top-1 against class labels, mean average precision against annotations.

The log holds, for every sample, the bytes the system answered (see bench/responses.py); the arithmetic is that of MLPerf's
accuracy-imagenet.py and accuracy-openimages.py.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cmx4trt.damage import MALFORMED, parse_json, reason
from cmx4trt.errors import DataError, MissingSoftwareError
from cmx4trt.files import open_text
from cmx4trt.manifest import FAILED, PASSED
from cmx4trt.networks.retinanet.detections import RECORD

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REFERENCE = {"resnet50": 76.456, "retinanet": 37.57}
"""Accuracy of MLPerf's float32 models in percent: top-1, and mAP (MLPerf Inference rules, table of benchmarks)."""
REQUIRED_SHARE = 0.99
"""What a submission must reach of it (the same rules)."""
NO_VERDICT = "none"
"""Verdict where images or labels are not those the target refers to."""
_UNDEFINED = -1.0
"""pycocotools' mean over no category that has an object (cocoeval.py, summarize)."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """``value`` and ``target`` in percent of ``metric``; a verdict only for the complete validation set."""

    metric: str
    value: float
    target: float
    images: int
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """For the result; ``note`` says why there is no verdict."""
        values = {
            "metric": self.metric,
            "value": round(self.value, 4),
            "target": round(self.target, 4),
            "images": self.images,
            "verdict": self.verdict,
        }
        if self.verdict == NO_VERDICT:
            values["note"] = "MLPerf's target holds for the complete validation set only"
        return values


def accuracy_of(network: str, metric: str, value: float, images: int, complete: bool) -> Accuracy:
    """An accuracy of ``value`` percent, judged if the validation set was ``complete``."""
    target = REFERENCE[network] * REQUIRED_SHARE
    verdict = (PASSED if value >= target else FAILED) if complete else NO_VERDICT
    return Accuracy(metric, value, target, images, verdict)


def unmeasured(images: int, note: str) -> dict[str, Any]:
    """In place of an accuracy for the result where there is nothing to measure against; ``note`` says why."""
    return {"images": images, "verdict": NO_VERDICT, "note": note}


def read_accuracy_log(path: str) -> dict[int, bytes]:
    """What was answered for each sample index; LoadGen may ask a sample twice, the first answer counts. Raises DataError."""
    answers: dict[int, bytes] = {}
    try:
        with open_text(path) as stream:
            for entry in parse_json(stream.read()):
                answers.setdefault(_index(entry["qsl_idx"]), bytes.fromhex(entry["data"]))
    except (OSError, *MALFORMED) as error:
        raise DataError(f"accuracy log {path} cannot be read ({reason(error)}); run in accuracy mode again") from error
    if not answers:
        raise DataError(f"accuracy log {path} holds no answer; run in accuracy mode")
    return answers


def _index(value: object) -> int:
    """A sample's index as it is. Raises ValueError."""
    if not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise ValueError(f"{value!r} is no index of a sample")
    return value


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
            f"answers of {sorted(lengths)} bytes are no classes, expected one int32 each; is it another model's log?"
        )
    found = np.frombuffer(b"".join(answers.values()), np.int32)
    return float(100.0 * np.mean(found == np.asarray(labels)[indices]))


def map_of_answers(
    answers: Mapping[int, bytes], annotations: Mapping[str, Any], positions: Sequence[int]
) -> float | None:
    """Mean average precision in percent (COCO's: IoU 0.50 … 0.95) of the answered samples; None where no object is annotated
    in their images (crowds do not count), so that there is nothing to find.

    ``annotations``: a checked annotation file in COCO's format (cmx4trt.bench.annotations); ``positions``: for each sample its
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
        raise DataError(f"the answer for sample {index} names sample {records[0, 0]:g}; the log is not of this run")
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
        raise MissingSoftwareError(f"pycocotools cannot be imported ({error}); pip install 'cmx4trt[bench]'") from error
    return COCO, COCOeval
