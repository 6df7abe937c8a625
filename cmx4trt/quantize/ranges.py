"""The result of a calibration: one scale for each activation, kept in a small JSON file."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cmx4trt.base.damage import MALFORMED, parse_json, reason
from cmx4trt.base.files import make_folder, open_text, remove_abandoned, write_atomic
from cmx4trt.errors import DataError
from cmx4trt.ir.model import Model
from cmx4trt.ir.onnx_file import encode_model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SCHEMA = "cmx4trt-ranges/1"
"""Name and version of the layout; raised when a field changes its meaning."""
CHECKSUM = "sha256"
"""The field that shows a flipped bit; files of earlier versions have none."""
CACHE_SETTING = "XDG_CACHE_HOME"
"""What a user changes to have ranges kept elsewhere."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranges:
    """What calibration found out about a network.

    - ``scales``: activation -> what one int8 step is worth, a float32 value (the magnitude at 127, divided by 127)
    - ``means``: activation -> mean of each channel, float32 [C], for bias correction; empty where no images were run
    - ``largest``: tensor -> largest magnitude seen, also of tensors that get no range; empty where no images were run
    - ``model_sha256``, ``data_sha256``: the network and the images (or the cache file) that they hold for
    """

    scales: Mapping[str, float]
    model_sha256: str
    data_sha256: str
    method: str
    samples: int
    means: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    largest: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        """The ranges as JSON; float32 values survive exactly."""
        means = {name: base64.b64encode(values.tobytes()).decode() for name, values in self.means.items()}
        content = {
            "schema": SCHEMA,
            "model_sha256": self.model_sha256,
            "data_sha256": self.data_sha256,
            "method": self.method,
            "samples": self.samples,
            "scales": dict(self.scales),
            "channel_means_float32_base64": means,
            "largest_magnitudes": dict(self.largest),
        }
        return json.dumps({**content, CHECKSUM: _checksum(content)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Ranges:
        """The ranges that ``to_json`` wrote. Raises DataError on anything else."""
        import numpy as np

        try:
            content = parse_json(text)
            if not isinstance(content, dict) or content.get("schema") != SCHEMA:
                raise ValueError(f"its schema is not {SCHEMA}")
            if content.pop(CHECKSUM, None) not in (None, _checksum(content)):
                raise ValueError(f"its {CHECKSUM} is not that of its content; whoever edits it removes that line")
            means = content["channel_means_float32_base64"]
            ranges = cls(
                {str(name): _float32(scale) for name, scale in content["scales"].items()},
                str(content["model_sha256"]),
                str(content["data_sha256"]),
                str(content["method"]),
                int(content["samples"]),
                {name: np.frombuffer(base64.b64decode(value), np.float32) for name, value in means.items()},
                {str(name): _float32(value) for name, value in content.get("largest_magnitudes", {}).items()},
            )
        except MALFORMED as error:
            raise DataError(
                f"{where} is not a file of ranges ({reason(error)}); write it again with cmx4trt calibrate"
            ) from error
        check_scales(ranges.scales, where)
        finite = all(np.isfinite(values).all() for values in ranges.means.values())
        if not finite or not all(0 <= value < float("inf") for value in ranges.largest.values()):
            raise DataError(
                f"{where} holds means or magnitudes that are NaN or infinite; write it again with cmx4trt calibrate"
            )
        return ranges


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _float32(value: object) -> float:
    """A number of a file as float32 keeps it, infinite where it is too large. Raises TypeError."""
    import numpy as np

    if not isinstance(value, (int, float)):
        raise TypeError(f"{value!r} is not a number")
    with np.errstate(over="ignore"):
        return float(np.float32(value))


def check_scales(scales: Mapping[str, float], where: str) -> None:
    """Refuse scales that no calibration can have given. Raises DataError."""
    bad = [name for name, scale in scales.items() if not 0.0 <= scale < float("inf")]
    if bad:
        raise DataError(
            f"{where} gives tensor '{bad[0]}' the scale {scales[bad[0]]:g} ({len(bad)} such entries), expected a finite "
            "number of at least 0; the file is damaged: calibrate again"
        )


def digest_of_model(model: Model) -> str:
    """SHA-256 of a network: its structure, names and constants."""
    return encode_model(model).sha256()


class RangesStore:
    """Ranges found earlier, by network, images and method: calibrated once for all batch sizes and builders."""

    def __init__(self, folder: str | None = None) -> None:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        self.folder = folder or os.path.join(base, "cmx4trt", "ranges")

    def path(self, model_sha256: str, data_sha256: str, method: str) -> str:
        """The file for these ranges, whether it exists or not."""
        key = hashlib.sha256(f"{SCHEMA}|{model_sha256}|{data_sha256}|{method}".encode()).hexdigest()
        return os.path.join(self.folder, f"{key[:32]}.json")

    def find(self, model_sha256: str, data_sha256: str, method: str) -> Ranges | None:
        """The stored ranges; a file that is absent, damaged or says something else is a miss, as is one of an earlier release,
        which did not look for the largest magnitudes."""
        path = self.path(model_sha256, data_sha256, method)
        try:
            with open_text(path) as stream:
                ranges = Ranges.from_json(stream.read(), path)
        except (OSError, UnicodeDecodeError, DataError):
            return None
        wanted: tuple[Any, ...] = (model_sha256, data_sha256, method)
        found = (ranges.model_sha256, ranges.data_sha256, ranges.method)
        return ranges if found == wanted and ranges.largest else None

    def keep(self, ranges: Ranges) -> str:
        """Store ``ranges``; returns the file's path. Raises OutputError."""
        path = self.path(ranges.model_sha256, ranges.data_sha256, ranges.method)
        make_folder(self.folder, CACHE_SETTING)
        remove_abandoned(self.folder)
        write_atomic(path, ranges.to_json().encode(), CACHE_SETTING)
        return path
