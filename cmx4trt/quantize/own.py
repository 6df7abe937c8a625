"""How a model that is quantized already is told before it is read."""

from __future__ import annotations

import mmap
from contextlib import suppress

from cmx4trt.base.files import open_file
from cmx4trt.graph.own_quantization import DEQUANTIZE


def holds_pairs(path: str) -> bool:
    """Whether a model file mentions DequantizeLinear; nothing is decoded, and a file that cannot be read has none."""
    with (
        suppress(OSError, ValueError),
        open_file(path) as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return content.find(DEQUANTIZE.encode()) >= 0
    return False
