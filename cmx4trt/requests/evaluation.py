"""What ``verify_engine`` and ``bench_engine`` are asked, made from option values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cmx4trt.base.values import parse_path
from cmx4trt.requests.evaluation_options import EvaluationOptions


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """A question about a published engine: ``engine``, its path or its manifest's, and what is asked of it."""

    engine: str
    options: EvaluationOptions = field(default_factory=EvaluationOptions)

    @classmethod
    def from_values(cls, engine: str, values: Mapping[str, object] | None = None) -> EvaluationRequest:
        """A request from option values, as text or as Python values; absent and None mean the default. Raises RequestError."""
        return cls(parse_path("engine", engine), EvaluationOptions.from_values(values or {}))
