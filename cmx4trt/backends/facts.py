"""What backends say of themselves and of their engines, as data. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
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
