"""Engines of a few bytes with a manifest as builds write it, for tests of what reads manifests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cmx4trt.base.verdicts import PASSED
from cmx4trt.requests.build import BuildRequest
from cmx4trt.store.manifest import SCHEMA

MANIFEST: dict[str, Any] = {
    "schema": SCHEMA,
    "fingerprint": "f",
    "parts": {},
    "engine": {"file": "a.plan", "bytes": 51918196, "sha256": "00"},
    "request": BuildRequest.from_values({"random_weights": 0, "batch_size": 4}).to_dict(),
    "source": {"kind": "random-weights", "seed": 0},
    "network": {"title": "ResNet-50 v1.5"},
    "builder": {"name": "tensorrt-rtx", "version": "1.7"},
    "graph": {},
    "verification": {"verdict": PASSED},
    "execution": {"engine_executed_on_a_device": "no"},
    "stages": {},
    "created": "2026-11-23T22:15:25+00:00",
    "tool": {},
}


def publish_manifest(folder: Path, stem: str = "a", **changes: Any) -> Path:
    """An engine called ``stem`` in ``folder``; ``changes`` replace parts of its manifest, whose path is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.plan").write_bytes(b"engine")
    engine = {**MANIFEST["engine"], "file": f"{stem}.plan", **changes.pop("engine", {})}
    path = folder / f"{stem}.json"
    path.write_text(json.dumps({**MANIFEST, "engine": engine, **changes}))
    return path
