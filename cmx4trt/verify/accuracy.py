"""Accuracy from LoadGen's accuracy log, which holds for every sample the bytes the system answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cmx4trt.base.damage import MALFORMED, parse_json, reason
from cmx4trt.base.files import open_text
from cmx4trt.base.verdicts import FAILED, PASSED
from cmx4trt.errors import DataError
from cmx4trt.networks.base import Network

NO_VERDICT = "none"
"""Verdict where there is no target, or images or labels are not those it refers to."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """``value`` and ``target`` in percent of ``metric``; a verdict only for the complete validation set of a target."""

    metric: str
    value: float
    target: float | None
    images: int
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """For the result; ``note`` says why there is no verdict."""
        values: dict[str, Any] = {"metric": self.metric, "value": round(self.value, 4)}
        if self.target is not None:
            values["target"] = round(self.target, 4)
        values |= {"images": self.images, "verdict": self.verdict}
        if self.target is None:
            values["note"] = "there is no target for this network"
        elif self.verdict == NO_VERDICT:
            values["note"] = "MLPerf's target holds for the complete validation set only"
        return values


def accuracy_of(network: Network, value: float, images: int, complete: bool) -> Accuracy:
    """An accuracy of ``value`` percent, judged if the validation set of the network's target was ``complete``."""
    target = network.accuracy.least if network.accuracy else None
    if target is None or not complete:
        return Accuracy(network.metric, value, target, images, NO_VERDICT)
    return Accuracy(network.metric, value, target, images, PASSED if value >= target else FAILED)


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
        raise ValueError(f"{value!r} is not a sample index")
    return value
