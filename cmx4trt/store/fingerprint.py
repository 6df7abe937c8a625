"""The one list of everything an engine depends on, and the key made from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cmx4trt.requests.build import BuildRequest

RECIPE = 2
"""Raised whenever the same file and request would give another engine than before: older engines then miss."""

SOURCE = "source"
"""The part that stands for the model: digests of its files, or its seed."""

CALIBRATION = "calibration"
"""The part that stands for the images or the cache an int8 engine was calibrated with."""

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


def source_of_digest(name: str, digest: str, external: Mapping[str, str]) -> str:
    """A model file by the digest called ``name`` of it, and of the ``external`` weight files that belong to it.

    ``external``: name in the model -> digest. With BLAKE3 it is the source part; with SHA-256 it is for people.
    """
    if not external:
        return f"{name}:{digest}"
    listed = json.dumps(sorted(external.items()), separators=(",", ":"))
    return f"{name}:{digest}+external:{hashlib.sha256(listed.encode()).hexdigest()}"


def source_of_record(record: Mapping[str, Any], name: str = "sha256") -> str:
    """The source that a manifest's ``record`` tells of, by the digests called ``name``. Raises LookupError, TypeError."""
    if record["kind"] == "random-weights":
        return source_of_seed(record["seed"])
    external = {item["file"]: item[name] for item in record.get("external", ())}
    return source_of_digest(name, record[name], external)


def fingerprint_of(parts: Mapping[str, Any]) -> str:
    """The key of a complete list of parts: SHA-256 over its canonical JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
