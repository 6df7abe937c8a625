"""What was verified about an engine, and what was not, in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cmx4trt.backends.facts import Check
from cmx4trt.base.quantities import rounded
from cmx4trt.base.verdicts import PASSED, SKIPPED
from cmx4trt.report.facts import EngineFacts

YES, NO, OPEN, NOTE = "yes", "no", "open", "note"
"""Statuses: checked and passed, checked and failed, not checked, note."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One sentence, its status, and the supporting figures."""

    status: str
    sentence: str
    figures: str = ""

    def to_dict(self) -> dict[str, str]:
        """The verdict as JSON types."""
        return {"status": self.status, "sentence": self.sentence, "figures": self.figures}


def verdicts_of_engine(facts: EngineFacts) -> list[Verdict]:
    """The file, the graph, the engine on a device: in the order in which a reader asks."""
    file = (
        Verdict(NO, f"The engine file is not the published one: {facts.doubt}.")
        if facts.doubt
        else Verdict(YES, "The engine file is unchanged since it was published.")
    )
    checks = _of_checks(facts.manifest.execution.checks or ())
    return [*_of_graph(facts), _of_execution(facts), *checks, *_of_weights(facts), file]


def _of_graph(facts: EngineFacts) -> Iterator[Verdict]:
    record = facts.manifest.verification.to_dict()
    if "sqnr_db" in record:
        yield _of_int8(record, "the INT8 graph given to the builder")
        inner = record.get("float32_graph")
        if isinstance(inner, dict):
            yield _of_comparison(inner, "The same network in float32 computes what the original computes.")
    elif facts.manifest.verification.verdict == SKIPPED:
        yield Verdict(
            OPEN, f"There was no comparison with the original model: {record.get('reason', 'no reason recorded')}."
        )
    else:
        yield _of_comparison(record, "The graph given to the builder computes what the original computes.")


def _of_comparison(record: Mapping[str, Any], sentence: str) -> Verdict:
    if record.get("verdict") != PASSED:
        return Verdict(NO, f"Verdict of the comparison with the original model: {record.get('verdict', 'none')}.")
    if "relative_l2" in record:
        figures = (
            f"Relative L2 error {_short(record['relative_l2'])}, limit {_short(record.get('relative_l2_limit'))}; largest "
            f"difference {_short(record.get('max_abs_error'))} on values up to {_short(record.get('largest_value'))}; "
            f"the same class for {record.get('classes_agree')} of {record.get('images')} images.{_figures_of_layers(record)}"
        )
    elif "detections_of_original" in record:
        figures = _figures_of_detections(record)
    else:
        figures = "No figures were recorded."
    return Verdict(YES, sentence, f"{figures} {_method(record)}")


def _figures_of_detections(record: Mapping[str, Any]) -> str:
    expected, images = record["detections_of_original"], record.get("images")
    share, limit = record.get("matched_fraction_at_iou_0.9"), record.get("matched_fraction_limit")
    found = f"{_percent(share)} of {expected} detections on {images} images matched"
    if limit is not None:
        found += f", limit {_percent(limit)}"
    if "head_error" in record:
        error, bound = record["head_error"], record.get("head_error_limit")
        found += f"; relative error of the heads {_short(error)}, limit {_short(bound)}"
    return f"{found}.{_figures_of_layers(record)}"


def _figures_of_layers(record: Mapping[str, Any]) -> str:
    layers = record.get("layers")
    if not isinstance(layers, dict):
        return ""
    return (
        f" {layers.get('judged')} of {layers.get('layers')} layers agree with the original up to rounding; the largest error "
        f"is {_short(layers.get('error_over_bound'))} of the rounding bound."
    )


def _of_int8(record: Mapping[str, Any], what: str) -> Verdict:
    """``what`` was compared with float32: the graph or the engine."""
    kind = "synthetic" if record.get("synthetic") else "held-out" if record.get("held_out") else "calibration"
    figures = f"{_figures_of_int8(record)}. Measured on {record.get('images')} {kind} images. {_method(record)}"
    verdict = record.get("verdict")
    limit = "the noise limit" if record["sqnr_db"] else "the required share of matched detections"
    if verdict == PASSED:
        return Verdict(YES, f"Compared with float32, the outputs of {what} are within {limit}.", figures)
    if verdict == SKIPPED:
        cause = "synthetic images" if record.get("synthetic") else "random weights"
        return Verdict(
            OPEN, f"How close {what} is to float32 could not be determined: {cause} are not meaningful here.", figures
        )
    return Verdict(NO, f"Compared with float32, the outputs of {what} exceed {limit}.", figures)


def _figures_of_int8(record: Mapping[str, Any]) -> str:
    agreed = f"{_percent(record['agreement'])} of {record.get('agreement_of')} agree" if record.get("agreement") else ""
    if not record["sqnr_db"]:
        return f"{agreed or 'No detections agree'}, limit {_percent(record.get('limit_agreement'))}"
    found = [value for value in record["sqnr_db"].values() if value is not None]
    lowest = f"{min(found):.1f} dB" if found else "no error at all"
    limit = f"limit {_short(record.get('limit_db'))} dB"
    return f"Lowest signal-to-noise ratio of an output {lowest}, {limit}{'; ' if agreed else ''}{agreed}"


def _of_execution(facts: EngineFacts) -> Verdict:
    record, device = facts.manifest.execution.to_dict(), facts.manifest.execution.device
    if not facts.manifest.ran_on_a_device:
        if facts.ran_on_device:
            return Verdict(
                OPEN,
                "The engine itself has run under LoadGen, see below; its outputs were not compared with the original model.",
            )
        return Verdict(
            OPEN, "The engine itself has not run: the build used no device. The figures above describe its graph."
        )
    if "verdict" not in record:
        return Verdict(OPEN, f"The engine ran on {device}; no comparison was recorded.")
    if "sqnr_db" in record:
        return _of_int8(record, f"the engine, run on {device},")
    return _of_comparison(record, f"The engine ran on {device} and computes what the original computes.")


def _of_checks(checks: Sequence[Check]) -> Iterator[Verdict]:
    """The results of the backend's own checks."""
    for check in checks:
        yield Verdict(YES if check.passed else NO, f"Checked by its builder: {check.title}.", check.sentence)


def _of_weights(facts: EngineFacts) -> Iterator[Verdict]:
    if facts.manifest.source.is_random:
        yield Verdict(NOTE, "The weights are random: speed and size are real, predictions are meaningless.")


def _method(record: Mapping[str, Any]) -> str:
    return f"Method: {record['method']}." if record.get("method") else ""


def _short(value: Any) -> str:
    return rounded(value) if isinstance(value, (int, float)) else "not recorded"


def _percent(value: Any) -> str:
    return f"{value:.1%}" if isinstance(value, (int, float)) else "not recorded"
