"""What ``verify_engine`` and ``bench_engine`` are asked, made from option values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from cmx4trt.base.values import nearest, parse_path
from cmx4trt.errors import RequestError
from cmx4trt.requests.evaluation_options import AUTO, BENCH_OPTIONS, PERFORMANCE, SHORT, VERIFY_OPTIONS

OPTIONS_OF = {"verify": VERIFY_OPTIONS, "bench": BENCH_OPTIONS}
"""The two commands, in the order in which a build's ``--evaluation`` runs them."""


def parse_values(values: Mapping[str, object], command: str = "bench") -> dict[str, Any]:
    """The values of a command's options that are given, parsed; None is not given. Raises RequestError."""
    known = {option.name: option for option in OPTIONS_OF[command]}
    for name in values:
        if name not in known:
            raise RequestError(f"'{name}' is not an option of {command}{nearest(str(name), tuple(known))}")
    return {name: known[name].parse(name, value) for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """What is asked of an engine, whichever it is; field by field the options of ``cmx4trt bench``.

    ``data``: a folder, 'synthetic', or None (verify: no accuracy; bench: synthetic).
    ``batch_size``: largest batch in samples, None for the engine's; ``duration``: seconds; ``target_qps``: samples per second;
    ``log_dir``: where logs go, None for a folder beside the engine. ``gpus``: 'all' or '0,1', None for the first.
    """

    network: str | None = None
    model: str | None = None
    execute: str = AUTO
    scenario: str | None = None
    mode: str = PERFORMANCE
    rules: str = SHORT
    count: int | None = None
    duration: float | None = None
    target_qps: float | None = None
    user_conf: str | None = None
    data: str | None = None
    labels: str | None = None
    batch_size: int | None = None
    log_dir: str | None = None
    gpus: str | None = None

    @classmethod
    def from_values(cls, values: Mapping[str, object], command: str = "bench") -> EvaluationOptions:
        """Options of a command from values as text or as Python values; absent and None mean the default. Raises RequestError."""
        return cls(**parse_values(values, command))

    def to_dict(self) -> dict[str, Any]:
        """Those that differ from their default, by name, as JSON types."""
        values = ((f, getattr(self, f.name)) for f in fields(self))
        return {f.name: value for f, value in values if value != f.default}


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """A question about a published engine: ``engine``, its path or its manifest's, and what is asked of it."""

    engine: str
    options: EvaluationOptions = field(default_factory=EvaluationOptions)

    @classmethod
    def from_values(cls, engine: str, values: Mapping[str, object] | None = None) -> EvaluationRequest:
        """A request from option values, as text or as Python values; absent and None mean the default. Raises RequestError."""
        return cls(parse_path("engine", engine), EvaluationOptions.from_values(values or {}))
