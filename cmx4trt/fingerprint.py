"""The one list of everything an engine depends on, and the key made from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cmx4trt.request import BuildRequest

RECIPE = 2
"""Raised whenever the same file and request would give another engine than before: older engines then miss."""

SOURCE = "source"
"""The part that is most expensive to compute (digests of the model's files), compared last."""

_NOT_IN_ENGINE = {
    *("model", "random_weights"),
    *("calibration_data", "calibration_list", "calibration_count", "calibration_cache"),
    *("common_code", "inference_source", "timing_cache", "kernel_choices"),
    *("verify", "report", "output_dir", "wait"),
}
"""Options that do not shape the engine, or that another part stands for: the source, the calibration data's digest, the
builder's identity."""


def engine_parts(request: BuildRequest, builder: Mapping[str, str]) -> dict[str, Any]:
    """Everything but the source: the request's options that shape the engine, the builder's identity, our recipe."""
    options = {name: getattr(request, name) for name in request.__slots__ if name not in _NOT_IN_ENGINE}
    return {"recipe": RECIPE, "builder": dict(builder), **{f"request.{k}": v for k, v in options.items()}}


def source_of_seed(seed: int) -> str:
    """The source part of a network with random weights."""
    return f"random-weights:{seed}"


def source_of_digest(sha256: str, external: Mapping[str, str]) -> str:
    """The source part of a model file whose ``external`` weight files (name in the model -> SHA-256) it comes with."""
    if not external:
        return f"sha256:{sha256}"
    listed = json.dumps(sorted(external.items()), separators=(",", ":"))
    return f"sha256:{sha256}+external:{hashlib.sha256(listed.encode()).hexdigest()}"


def fingerprint_of(parts: Mapping[str, Any]) -> str:
    """The key of a complete list of parts: SHA-256 over its canonical JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
