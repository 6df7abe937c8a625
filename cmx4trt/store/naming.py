"""What the path of an engine says beyond NVIDIA's name for it, so that no two different requests share a path.

The plain case has NVIDIA's name alone: random weights of seed 0, every option as it is by default. Newer software (builder,
driver, recipe) makes the same request's engine again, and replaces the older one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cmx4trt.backends import backend_of
from cmx4trt.base.files import name_for_files
from cmx4trt.base.values import RANDOM_DATA
from cmx4trt.requests.build import BuildRequest
from cmx4trt.requests.options import build_option
from cmx4trt.store.fingerprint import CALIBRATION, SOURCE, source_of_seed

DIGITS = 12
"""Hexadecimal digits of a digest in a name: 48 bits, so that among a million engines of one plain name two are alike with a
probability of 0.2 % (a collision costs a build, no engine is taken for another)."""
PLAIN_SEED = 0

_IN_NAME = {"network", "scenario", "batch_size", "precision", "builder", "target"}
_OF_OPTION = "request."


def place_of(request: BuildRequest, parts: Mapping[str, Any]) -> str:
    """The folder of the GPUs that an engine is for: the target, with the GPU itself where that means the machine's own.

    'NVIDIA-H200-sm90' for the target current, 'same_compute_capability-sm90'; ``parts``: those of the fingerprint.
    """
    identity = parts["builder"]
    capability = str(identity.get("compute_capability", "")).replace(".", "")
    if "gpu" in identity:
        return f"{name_for_files(str(identity['gpu']))}-sm{capability}"
    return f"{request.target}-sm{capability}" if capability else request.target


def own_of(request: BuildRequest, parts: Mapping[str, Any]) -> str:
    """A digest of all that the name does not say, or nothing in the plain case."""
    own = {name: value for name, value in parts.items() if _distinguishes(request, name, value)}
    identity = parts["builder"]
    own.update({key: identity[key] for key in backend_of(request.builder).request_parts if key in identity})
    if not own:
        return ""
    return hashlib.sha256(json.dumps(own, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:DIGITS]


def _distinguishes(request: BuildRequest, part: str, value: Any) -> bool:
    """Whether a part of the fingerprint is of the request, not in NVIDIA's name, and other than plain."""
    if part == SOURCE:
        return bool(value != source_of_seed(PLAIN_SEED))
    if part == CALIBRATION:
        given = (request.calibration_cache, request.calibration_list, request.calibration_count)
        return request.calibration_data != RANDOM_DATA or any(item is not None for item in given)
    name = part.removeprefix(_OF_OPTION)
    if name == part or name in _IN_NAME:
        return False
    if name == "device":
        return bool(value != next(iter(backend_of(request.builder).devices)))
    return bool(value != build_option(name).value_of(None))
