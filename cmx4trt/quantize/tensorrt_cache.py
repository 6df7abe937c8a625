"""TensorRT's calibration cache, the text file of its implicit INT8 calibrators, both ways.

Line 1 is ``TRT-<version>-<algorithm>``; every other line ``<tensor name>: <8 hex digits>``, the bits of a big-endian float32
that is the tensor's scale (magnitude at 127, divided by 127). Names may hold colons and spaces, so a line is split at its
last ``": "``. Sources: NVIDIA's MLPerf code (closed/NVIDIA/code/common/utils.py, v3.0) and its cache files.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from cmx4trt.errors import DataError
from cmx4trt.quantize.qdq import DEAD_SCALE

DEFAULT_HEADER = "TRT-100100-EntropyCalibration2"
"""Version and algorithm of NVIDIA's caches since MLPerf Inference 4.1; TensorRT takes them with other versions too."""

_HEADER = re.compile(r"TRT-\d+-\w+")
_HEX = re.compile(r"[0-9a-fA-F]{8}")


@dataclass(frozen=True, slots=True)
class TensorRTCache:
    """A cache's first line, its scales (float32 values) by tensor name, and the numbers of their lines."""

    header: str
    scales: Mapping[str, float]
    lines: Mapping[str, int] = field(default_factory=dict)


def parse_cache(content: bytes, where: str) -> TensorRTCache:
    """The cache in a file's ``content``, which may begin with a byte order mark, as Windows' editors leave it.

    Raises DataError on another file, and, naming the line, on a malformed one, a scale that is not a positive number, and a name
    that has two different scales.
    """
    lines = content.decode("utf-8-sig", errors="replace").splitlines()
    header = lines[0].strip() if lines else ""
    if not _HEADER.fullmatch(header):
        raise DataError(
            f"{where} is not a TensorRT calibration cache: its first line is '{header[:60]}', expected "
            "TRT-<version>-EntropyCalibration2 or a similar algorithm"
        )
    scales: dict[str, float] = {}
    found: dict[str, int] = {}
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        name, separator, digits = line.rstrip().rpartition(": ")
        if not separator or not name or not _HEX.fullmatch(digits):
            raise DataError(
                f"{where}, line {number} is '{line[:60]}', expected '<tensor name>: <8 hex digits>'; the file is damaged"
            )
        scale: float = struct.unpack(">f", bytes.fromhex(digits))[0]
        if not 0 < scale < inf:
            raise DataError(
                f"{where}, line {number} gives tensor '{name}' the scale {scale:g}, expected a positive number; the file is "
                "damaged: calibrate again"
            )
        if scales.setdefault(name, scale) != scale:
            raise DataError(
                f"{where}, line {number} gives tensor '{name}' the scale {scale:g}, but line {found[name]} gave it "
                f"{scales[name]:g}; keep one of the two lines"
            )
        found.setdefault(name, number)
    if not scales:
        raise DataError(f"{where} holds no tensor; calibrate again")
    return TensorRTCache(header, scales, found)


def encode_cache(scales: Mapping[str, float], header: str = DEFAULT_HEADER) -> bytes:
    """The file for ``scales``, which must be float32 values; that of a tensor that was zero on all images becomes DEAD_SCALE."""
    lines = [header, *(f"{name}: {struct.pack('>f', scale or DEAD_SCALE).hex()}" for name, scale in scales.items())]
    return ("\n".join(lines) + "\n").encode()
