"""The one list of everything an engine depends on, and the key made from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cmx4trt.requests.build import BuildRequest
from cmx4trt.requests.options import own_options

RECIPE = 6
"""Raised whenever the same file and request would give another engine than before: older engines then miss."""

SOURCE = "source"
"""The part that stands for the model: digests of its files, or its seed."""

CALIBRATION = "calibration"
"""The part that stands for the images or the cache an int8 engine was calibrated with."""


def engine_parts(request: BuildRequest, builder: Mapping[str, str]) -> dict[str, Any]:
    """Everything but the source: the request's options that shape the engine, the builder's identity, our recipe.

    Options of other networks and backends are left out: what is installed beside changes no engine.
    """
    options = {one.name: request.value(one.name) for one in request.options_in_effect() if one.shapes_engine}
    return {"recipe": RECIPE, "builder": dict(builder), **{f"request.{k}": v for k, v in options.items()}}


def fits(recorded: Mapping[str, Any], parts: Mapping[str, Any]) -> bool:
    """Whether a manifest's parts are ``parts``. Earlier releases recorded the options of all networks and backends, too, which an
    engine of another one has at their default."""
    idle = {f"request.{one.name}": one.value_of(None) for one in own_options()}
    more = {name: value for name, value in recorded.items() if name not in parts}
    return all(name in idle and idle[name] == value for name, value in more.items()) and (
        {name: value for name, value in recorded.items() if name in parts} == parts
    )


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
