"""What was verified about an engine, and what was not, in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cmx4trt.backends.facts import Check
from cmx4trt.base.quantities import rounded
from cmx4trt.base.verdicts import PASSED, SKIPPED
from cmx4trt.networks.figures import (
    ClassFigures,
    DetectionFigures,
    Figures,
    Int8Figures,
    LayerFigures,
    figures_of,
)
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
    record = facts.manifest.verification
    found = figures_of(record.to_dict())
    if isinstance(found, Int8Figures):
        yield _of_int8(found, "the INT8 graph given to the builder")
        if (float32 := found.float32) is not None:
            yield _of_comparison(
                float32.verdict, float32, "The same network in float32 computes what the original computes."
            )
    elif record.verdict == SKIPPED:
        yield Verdict(
            OPEN, f"There was no comparison with the original model: {record.reason or 'no reason recorded'}."
        )
    else:
        yield _of_comparison(
            record.verdict, found, "The graph given to the builder computes what the original computes."
        )


def _of_comparison(verdict: str | None, found: Figures | None, sentence: str) -> Verdict:
    if verdict != PASSED:
        return Verdict(NO, f"Verdict of the comparison with the original model: {verdict or 'none'}.")
    if isinstance(found, ClassFigures):
        return Verdict(YES, sentence, f"{_figures_of_classes(found)} {_method(found)}")
    if isinstance(found, DetectionFigures):
        return Verdict(YES, sentence, f"{_figures_of_detections(found)} {_method(found)}")
    return Verdict(YES, sentence, "No figures were recorded.")


def _figures_of_classes(found: ClassFigures) -> str:
    return (
        f"Relative L2 error {_short(found.relative_l2)}, limit {_short(found.relative_l2_limit)}; largest "
        f"difference {_short(found.max_abs_error)} on values up to {_short(found.largest_value)}; "
        f"the same class for {found.classes_agree} of {found.images} images.{_figures_of_layers(found.layers)}"
    )


def _figures_of_detections(found: DetectionFigures) -> str:
    text = f"{_percent(found.matched)} of {found.detections_of_original} detections on {found.images} images matched"
    if found.matched_limit is not None:
        text += f", limit {_percent(found.matched_limit)}"
    if found.head_error is not None:
        text += f"; relative error of the heads {_short(found.head_error)}, limit {_short(found.head_error_limit)}"
    return f"{text}.{_figures_of_layers(found.layers)}"


def _figures_of_layers(layers: LayerFigures | None) -> str:
    if layers is None:
        return ""
    return (
        f" {layers.judged} of {layers.layers} layers agree with the original up to rounding; the largest error "
        f"is {_short(layers.error_over_bound)} of the rounding bound."
    )


def _of_int8(found: Int8Figures, what: str) -> Verdict:
    """``what`` was compared with float32: the graph or the engine."""
    kind = "synthetic" if found.synthetic else "held-out" if found.held_out else "calibration"
    figures = f"{_figures_of_int8(found)}. Measured on {found.images} {kind} images. {_method(found)}"
    limit = "the noise limit" if found.sqnr_db else "the required share of matched detections"
    if found.verdict == PASSED:
        return Verdict(YES, f"Compared with float32, the outputs of {what} are within {limit}.", figures)
    if found.verdict == SKIPPED:
        cause = "synthetic images" if found.synthetic else "random weights"
        return Verdict(
            OPEN, f"How close {what} is to float32 could not be determined: {cause} are not meaningful here.", figures
        )
    return Verdict(NO, f"Compared with float32, the outputs of {what} exceed {limit}.", figures)


def _figures_of_int8(found: Int8Figures) -> str:
    agreed = f"{_percent(found.agreement)} of {found.agreement_of} agree" if found.agreement else ""
    if not found.sqnr_db:
        return f"{agreed or 'No detections agree'}, limit {_percent(found.limit_agreement)}"
    values = [value for value in found.sqnr_db.values() if value is not None]
    lowest = f"{min(values):.1f} dB" if values else "no error at all"
    limit = f"limit {_short(found.limit_db)} dB"
    return f"Lowest signal-to-noise ratio of an output {lowest}, {limit}{'; ' if agreed else ''}{agreed}"


def _of_execution(facts: EngineFacts) -> Verdict:
    record = facts.manifest.execution
    if not facts.manifest.ran_on_a_device:
        if facts.ran_on_device:
            return Verdict(
                OPEN,
                "The engine itself has run under LoadGen, see below; its outputs were not compared with the original model.",
            )
        return Verdict(
            OPEN, "The engine itself has not run: the build used no device. The figures above describe its graph."
        )
    if record.verdict is None:
        return Verdict(OPEN, f"The engine ran on {record.device}; no comparison was recorded.")
    found = figures_of(record.to_dict())
    if isinstance(found, Int8Figures):
        return _of_int8(found, f"the engine, run on {record.device},")
    sentence = f"The engine ran on {record.device} and computes what the original computes."
    return _of_comparison(record.verdict, found, sentence)


def _of_checks(checks: Sequence[Check]) -> Iterator[Verdict]:
    """The results of the backend's own checks."""
    for check in checks:
        yield Verdict(YES if check.passed else NO, f"Checked by its builder: {check.title}.", check.sentence)


def _of_weights(facts: EngineFacts) -> Iterator[Verdict]:
    if facts.manifest.source.is_random:
        yield Verdict(NOTE, "The weights are random: speed and size are real, predictions are meaningless.")


def _method(found: Figures) -> str:
    return f"Method: {found.method}." if found.method else ""


def _short(value: float | None) -> str:
    return "not recorded" if value is None else rounded(value)


def _percent(value: float | None) -> str:
    return "not recorded" if value is None else f"{value:.1%}"
