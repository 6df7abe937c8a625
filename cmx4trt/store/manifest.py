"""The manifest beside every engine: what was made, from what, by what, verified how."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from cmx4trt.base.damage import parse_json
from cmx4trt.base.verdicts import PASSED

SCHEMA = "cmx4trt-manifest/2"
"""Name and version of the layout; raised when a field changes its meaning or goes."""

ENGINE_SHA256 = "engine sha256"
"""Under this name a result of LoadGen records the digest of the engine that it is of."""

ENGINE_ITSELF = "the engine itself"
"""So begins what a result says was executed, unless it was the engine's graph instead."""


_LISTS = ("layers", "launches", "launch_milliseconds")


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as it lies on disk; all parts are JSON types.

    - ``fingerprint``: key of everything the engine depends on; ``parts``: those things, so that a difference can be named
    - ``engine``: file (name beside the manifest), bytes, sha256
    - ``request``: every effective option; ``source``: the model file or generator; ``network``: title, inputs, outputs
    - ``builder``: library, version, what it reported
    - ``graph``: what was done to the source, sha256 of the result with all its constants, its layers (see cmx4trt.graph.layers)
    - ``verification``: verdict, method, measured differences and their limits; ``execution``: whether a device ran the engine
    - ``stages``: wall seconds of each stage; ``created``: UTC time; ``tool``: package and versions
    """

    fingerprint: str
    parts: Mapping[str, Any]
    engine: Mapping[str, Any]
    request: Mapping[str, Any]
    source: Mapping[str, Any]
    network: Mapping[str, Any]
    builder: Mapping[str, Any]
    graph: Mapping[str, Any]
    verification: Mapping[str, Any]
    execution: Mapping[str, Any]
    stages: Mapping[str, float]
    created: str
    tool: Mapping[str, Any]
    schema: str = field(default=SCHEMA)

    def to_json(self) -> str:
        """The manifest as indented JSON."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """The manifest that ``to_json`` wrote. Raises ValueError on anything else."""
        values = parse_json(text)
        names = {f.name for f in fields(cls)}
        if not isinstance(values, dict) or values.get("schema") != SCHEMA:
            raise ValueError(f"not a manifest of schema {SCHEMA}")
        if not names <= values.keys():
            raise ValueError(f"the manifest lacks {', '.join(sorted(names - values.keys()))}")
        types = {f.name: (str if f.name in ("fingerprint", "created", "schema") else dict) for f in fields(cls)}
        wrong = [name for name, kind in types.items() if not isinstance(values[name], kind)]
        if wrong:
            raise ValueError(f"the manifest's {', '.join(wrong)} are of the wrong type")
        return cls(**{name: values[name] for name in names})

    def sections(self) -> list[tuple[str, Mapping[str, Any]]]:
        """The parts worth reading, titled, in the order of a reader's questions."""
        return [
            ("engine", {**self.engine, "created": self.created}),
            ("request", self.request),
            ("source", self.source),
            ("network", self.network),
            ("graph", _without_lists(self.graph)),
            ("builder", _without_lists(self.builder)),
            ("verification", self.verification),
            ("execution", _without_lists(self.execution)),
            ("stages (seconds)", self.stages),
            ("tool", self.tool),
        ]

    @property
    def judged(self) -> bool:
        """Whether a verification ran, even one whose images could not tell: to run it again would say the same."""
        return "method" in self.verification

    @property
    def verified(self) -> bool:
        """Whether the engine's graph was compared with the original model and agreed."""
        return self.verification.get("verdict") == PASSED


def _without_lists(part: Mapping[str, Any]) -> dict[str, Any]:
    """A part without what has an entry for each layer or launch, which backends show as tables."""
    kept = {name: value for name, value in part.items() if name not in _LISTS}
    return {name: _without_lists(value) if isinstance(value, Mapping) else value for name, value in kept.items()}
