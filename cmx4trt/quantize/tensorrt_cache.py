"""TensorRT's calibration cache, the text file of its implicit INT8 calibrators, both ways.

Line 1 is ``TRT-<version>-<algorithm>``; every other line ``<tensor name>: <8 hex digits>``, the bits of a big-endian float32
that is the tensor's scale (magnitude at 127, divided by 127). Names may hold colons and spaces, so a line is split at its
last ``": "``. Sources: NVIDIA's MLPerf code (closed/NVIDIA/code/common/utils.py, v3.0) and its cache files.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from cmx4trt.errors import DataError
from cmx4trt.quantize.ranges import check_scales

DEFAULT_HEADER = "TRT-100100-EntropyCalibration2"
"""Version and algorithm of NVIDIA's caches since MLPerf Inference 4.1; TensorRT takes them with other versions too."""

_HEADER = re.compile(r"TRT-\d+-\w+")
_HEX = re.compile(r"[0-9a-fA-F]{8}")


@dataclass(frozen=True, slots=True)
class TensorRTCache:
    """A cache's first line and its scales (float32 values) by tensor name."""

    header: str
    scales: Mapping[str, float]


def parse_cache(content: bytes, where: str) -> TensorRTCache:
    """The cache in a file's ``content``. Raises DataError on another file, a malformed line, a negative or NaN scale."""
    lines = content.decode("utf-8", errors="replace").splitlines()
    header = lines[0].strip() if lines else ""
    if not _HEADER.fullmatch(header):
        raise DataError(
            f"{where} is not a TensorRT calibration cache: its first line is '{header[:60]}', expected "
            "TRT-<version>-EntropyCalibration2 or a similar algorithm"
        )
    scales: dict[str, float] = {}
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        name, separator, digits = line.rstrip().rpartition(": ")
        if not separator or not name or not _HEX.fullmatch(digits):
            raise DataError(
                f"{where}, line {number} is '{line[:60]}', expected '<tensor name>: <8 hex digits>'; the file is damaged"
            )
        scales[name] = struct.unpack(">f", bytes.fromhex(digits))[0]
    if not scales:
        raise DataError(f"{where} holds no tensor; calibrate again")
    check_scales(scales, where)
    return TensorRTCache(header, scales)


def encode_cache(scales: Mapping[str, float], header: str = DEFAULT_HEADER) -> bytes:
    """The file for ``scales``, which must be float32 values."""
    lines = [header, *(f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in scales.items())]
    return ("\n".join(lines) + "\n").encode()
