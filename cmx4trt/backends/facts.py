"""What backends say of themselves and of their engines, as data. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cmx4trt.base.damage import MALFORMED

PRECISION_TITLES: Mapping[str, str] = {
    "fp32": "32-bit floating point",
    "fp16": "16-bit floating point",
    "bf16": "bfloat16, 16-bit floating point with the range of float32",
    "int8": "8-bit integers; needs images or a calibration cache",
}
PRECISIONS = tuple(PRECISION_TITLES)
"""Compute precisions, the widest first."""


@dataclass(frozen=True, slots=True)
class CmNeeds:
    """What a build through CM has to know.

    - ``paths``: option -> the environment key in which a dependency of _cm.yaml leaves its value
    - ``own_models``: networks whose model file does not come from CM's get,ml-model
    - ``modules``: end of a CMX4TRT_HAVE_ key -> the Python module that a dependency brings where it is missing
    """

    paths: Mapping[str, str] = field(default_factory=dict)
    own_models: tuple[str, ...] = ()
    modules: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Check:
    """What a backend found when it checked an engine by its own means, beside the comparison with the original model.

    ``title`` names the check in a few words, ``sentence`` says what was measured; ``figures`` go into the manifest.
    """

    title: str
    passed: bool
    sentence: str
    figures: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return {"title": self.title, "passed": self.passed, "sentence": self.sentence, **self.figures}


MEASURED = "measured"
"""Where the manifest's record of the execution keeps a backend's Measurement."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """How fast an engine was when its backend ran it on the local GPU, its inputs in the GPU's memory.

    ``milliseconds``: of one batch of ``batch`` samples; ``figures`` go into the manifest beside them (JSON types only).
    """

    gpu: str
    batch: int
    milliseconds: float
    figures: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return {"gpu": self.gpu, "batch": self.batch, "milliseconds": self.milliseconds, **self.figures}

    @classmethod
    def from_record(cls, executed: Mapping[str, Any]) -> Measurement | None:
        """What the manifest's record of the execution keeps, without the figures; None where nothing was measured, or the
        record is not what this release writes."""
        record = executed.get(MEASURED)
        try:
            found = cls(str(record["gpu"]), int(record["batch"]), float(record["milliseconds"])) if record else None
        except MALFORMED:
            return None
        return found if found is not None and found.batch > 0 and 0 < found.milliseconds < math.inf else None

    @property
    def images_per_second(self) -> float:
        """The throughput that follows."""
        return self.batch / self.milliseconds * 1e3

    def sentence(self) -> str:
        """For people."""
        return (
            f"{self.milliseconds:.3f} ms for a batch of {self.batch}, {self.images_per_second:,.0f} images/s, on {self.gpu}, "
            "inputs in its memory"
        )


@dataclass(frozen=True, slots=True)
class Tuning:
    """A table of measurements by which later builds choose kernels: ``content`` is the file that ``option`` takes."""

    option: str
    content: str
    rows: tuple[tuple[str, str], ...] = ()
    """What was measured, for people."""


@dataclass(frozen=True, slots=True)
class Share:
    """A cell of a table that reports draw as a bar: ``part`` of the whole, 0 to 1, beside ``text``."""

    part: float
    text: str = ""


Cell = str | Share


@dataclass(frozen=True, slots=True)
class Section:
    """A part of an engine's description that only its backend can write: paragraphs, then a table where there are ``rows``."""

    title: str
    paragraphs: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
