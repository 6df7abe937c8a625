"""Accuracy from LoadGen's accuracy log, which holds for every sample the bytes the system answered."""

from __future__ import annotations

from cmx4trt.base.damage import MALFORMED, parse_json, reason
from cmx4trt.base.files import open_text
from cmx4trt.base.verdicts import FAILED, PASSED
from cmx4trt.errors import DataError
from cmx4trt.networks.base import Network
from cmx4trt.store.results import Accuracy

NO_VERDICT = "none"
"""Verdict where there is no target, or images or labels are not those it refers to."""


def accuracy_of(network: Network, value: float, images: int, complete: bool) -> Accuracy:
    """An accuracy of ``value`` percent, judged if the validation set of the network's target was ``complete``."""
    target = network.accuracy.least if network.accuracy else None
    verdict, note = NO_VERDICT, None
    if target is None:
        note = "there is no target for this network"
    elif not complete:
        note = "MLPerf's target holds for the complete validation set only"
    else:
        verdict = PASSED if value >= target else FAILED
    shown = None if target is None else round(target, 4)
    return Accuracy(network.metric, round(value, 4), shown, images, verdict, note)


def unmeasured(images: int, note: str) -> Accuracy:
    """In place of an accuracy where there is nothing to measure against; ``note`` says why."""
    return Accuracy(images=images, verdict=NO_VERDICT, note=note)


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
