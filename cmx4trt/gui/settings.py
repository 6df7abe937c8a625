"""What the command passes to the page: one frozen object, as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class PageSettings:
    """The script (folder, tags, requested variations), the folder in which runs start, and what the page offers."""

    script: str
    tags: tuple[str, ...]
    variations: tuple[str, ...]
    folder: str
    own: bool
    """Whether this is the script whose engines, manifests and reports the page can show."""
    may_run: bool = True
    title: str = ""

    def to_json(self) -> str:
        """The settings as one argument of the page."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> PageSettings:
        """The settings that ``to_json`` wrote."""
        values = json.loads(text)
        return cls(**{**values, "tags": tuple(values["tags"]), "variations": tuple(values["variations"])})
