"""What backends declare about themselves and their engines, as data. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cmx4trt.base.frozen import Frozen, field
from cmx4trt.base.typed import Record, WrongRecordError, rest

PRECISION_TITLES: Mapping[str, str] = {
    "fp32": "32-bit floating point",
    "fp16": "16-bit floating point",
    "bf16": "bfloat16, 16-bit floating point with the range of float32",
    "int8": "8-bit integers; needs images or a calibration cache",
}
PRECISIONS = tuple(PRECISION_TITLES)
"""Compute precisions, the widest first."""


class CmNeeds(Frozen):
    """What a build through CM needs to know.

    - ``paths``: option -> the environment key in which a dependency of _cm.yaml leaves its value
    - ``own_models``: networks whose model file does not come from CM's get,ml-model
    - ``modules``: suffix of a CMX4TRT_HAVE_ key -> the Python module that a dependency installs if it is missing
    """

    paths: Mapping[str, str] = field(default_factory=dict)
    own_models: tuple[str, ...] = ()
    modules: Mapping[str, str] = field(default_factory=dict)


class Check(Record):
    """The result of a backend's own check of an engine, in addition to the comparison with the original model.

    ``title`` names the check in a few words, ``sentence`` says what was measured; ``figures`` go into the manifest.
    """

    title: str
    passed: bool
    sentence: str
    figures: Mapping[str, Any] = rest()


class Measurement(Record):
    """How fast an engine was when its backend ran it on the local GPU, with inputs in GPU memory.

    ``milliseconds``: of one batch of ``batch`` samples; ``figures`` go into the manifest beside them (JSON types only).
    """

    gpu: str
    batch: int
    milliseconds: float
    figures: Mapping[str, Any] = rest()

    def __post_init__(self) -> None:
        """Raises WrongRecordError for a time or a batch that nothing can have."""
        if self.batch < 1 or not 0 < self.milliseconds < math.inf:
            raise WrongRecordError(f"a batch of {self.batch} in {self.milliseconds} ms is no measurement")

    @property
    def images_per_second(self) -> float:
        """The throughput that follows."""
        return self.batch / self.milliseconds * 1e3

    def sentence(self) -> str:
        """A sentence for people."""
        return (
            f"{self.milliseconds:.3f} ms for a batch of {self.batch}, {self.images_per_second:,.0f} images/s, on {self.gpu}, "
            "inputs in GPU memory"
        )


class Tuning(Frozen):
    """A table of measurements from which later builds choose kernels: ``content`` is the file for ``option``."""

    option: str
    content: str
    rows: tuple[tuple[str, str], ...] = ()
    """The measurements, for people."""


class Share(Frozen):
    """A table cell that reports draw as a bar: ``part`` of the whole, 0 to 1, beside ``text``."""

    part: float
    text: str = ""


Cell = str | Share


class Section(Frozen):
    """A section on an engine that only its backend can write: paragraphs, then a table if there are ``rows``."""

    title: str
    paragraphs: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
