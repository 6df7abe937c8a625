"""The manifest beside every engine: what was made, from what, by what, verified how."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cmx4trt.backends.facts import Check, Measurement
from cmx4trt.base.damage import parse_json
from cmx4trt.base.frozen import field
from cmx4trt.base.typed import Record, absent, named, rest
from cmx4trt.base.verdicts import PASSED

SCHEMA = "cmx4trt-manifest/2"
"""Name and version of the layout; raised when a field changes its meaning or goes."""

ENGINE_ITSELF = "the engine itself"
"""So begins what a result says was executed, unless it was the engine's graph instead."""


_LISTS = ("layers", "launches", "launch_milliseconds")
_SHOWN = ("request", "source", "network", "graph", "builder", "verification", "execution", "stages", "tool")


class EngineFile(Record):
    """The engine's file beside the manifest, its size in bytes, and its digests."""

    file: str
    bytes: int
    sha256: str
    blake3: str | None = absent()


class RequestRecord(Record):
    """Every effective option by name, in ``more`` those that no other part of the package reads from here."""

    network: str
    device: str
    builder: str
    precision: str
    scenario: str
    batch_size: int
    copy_streams: int
    model: str | None
    random_weights: int | None
    target: str
    more: Mapping[str, Any] = rest()


class SourceRecord(Record):
    """Where the network came from: a seed, or a file with its size and digests, and those of its ``external`` data."""

    kind: str
    path: str | None = absent()
    bytes: int | None = absent()
    sha256: str | None = absent()
    blake3: str | None = absent()
    seed: int | None = absent()
    external: Sequence[Mapping[str, Any]] | None = absent()

    @property
    def is_random(self) -> bool:
        """Whether the weights are random."""
        return self.kind == "random-weights"


class TensorRecord(Record):
    """An input or output; ``shape`` with the batch dimension's symbol."""

    name: str
    dtype: str
    shape: Sequence[Any]


class NetworkRecord(Record):
    """The network's title; inputs, outputs and profiles, unless the builder has a graph of its own."""

    title: str
    inputs: Sequence[TensorRecord] | None = absent()
    outputs: Sequence[TensorRecord] | None = absent()
    profiles: Mapping[str, int] | None = absent()


class BuilderRecord(Record):
    """What built the engine, in ``more`` what it reported."""

    name: str
    version: str
    warnings: Sequence[str] = ()
    more: Mapping[str, Any] = rest()


class GraphRecord(Record):
    """The prepared graph: its digest with all constants, their bytes, its layers (cmx4trt.graph.layers), INT8, and in ``more``
    what was done to the source. Empty where the builder has a graph of its own."""

    sha256: str | None = absent()
    constant_bytes: int | None = absent()
    layers: Sequence[Any] | None = absent()
    uncounted_operators: Mapping[str, int] | None = absent()
    quantization: Mapping[str, Any] | None = absent()
    more: Mapping[str, Any] = rest()


class VerificationRecord(Record):
    """A verdict; the method, or the reason why there was no comparison; in ``figures`` what was measured, and the limits."""

    verdict: str
    method: str | None = absent()
    reason: str | None = absent()
    figures: Mapping[str, Any] = rest()


class ExecutionRecord(Record):
    """Whether a device ran the engine ('yes', 'no'), and which; what was found there: as in VerificationRecord, by the backend's
    own checks, and of the speed."""

    executed: str = named("engine_executed_on_a_device")
    device: str | None = absent()
    verdict: str | None = absent()
    method: str | None = absent()
    checks: Sequence[Check] | None = absent("backend_checks")
    measured: Measurement | None = absent()
    figures: Mapping[str, Any] = rest()


class Manifest(Record):
    """A manifest as it lies on disk.

    - ``fingerprint``: key of everything the engine depends on; ``parts``: those things, so that a difference can be named
    - ``stages``: wall seconds of each stage; ``created``: UTC time; ``tool``: package and versions
    """

    fingerprint: str
    parts: Mapping[str, Any]
    engine: EngineFile
    request: RequestRecord
    source: SourceRecord
    network: NetworkRecord
    builder: BuilderRecord
    graph: GraphRecord
    verification: VerificationRecord
    execution: ExecutionRecord
    stages: Mapping[str, float]
    created: str
    tool: Mapping[str, Any]
    schema: str = field(default=SCHEMA)

    def to_json(self) -> str:
        """The manifest as indented JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """The manifest that ``to_json`` wrote. Raises ValueError on anything else, naming what is wrong."""
        values = parse_json(text)
        if not isinstance(values, dict) or values.get("schema") != SCHEMA:
            raise ValueError(f"not a manifest of schema {SCHEMA}")
        return cls.from_dict(values)

    def sections(self) -> list[tuple[str, Mapping[str, Any]]]:
        """The parts worth reading, titled, in the order of a reader's questions."""
        written = self.to_dict()
        named_so = {"stages": "stages (seconds)"}
        parts = [(named_so.get(name, name), _without_lists(written[name])) for name in _SHOWN]
        return [("engine", {**written["engine"], "created": self.created}), *parts]

    @property
    def judged(self) -> bool:
        """Whether a verification ran, even one whose images could not tell: to run it again would say the same."""
        return self.verification.method is not None

    @property
    def verified(self) -> bool:
        """Whether the engine's graph was compared with the original model and agreed."""
        return self.verification.verdict == PASSED

    @property
    def ran_on_a_device(self) -> bool:
        """Whether a device ran the engine when it was built."""
        return self.execution.executed == "yes"


def _without_lists(part: Mapping[str, Any]) -> dict[str, Any]:
    """A part without what has an entry for each layer or launch, which backends show as tables."""
    kept = {name: value for name, value in part.items() if name not in _LISTS}
    return {name: _without_lists(value) if isinstance(value, Mapping) else value for name, value in kept.items()}
