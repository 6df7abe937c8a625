"""The kernel with which the GPU fetches a small batch from page-locked memory, as the first launch of the batch's own graph.

Copies into the next batch's buffer slow the network down less (kernels/gather.cu says how much), but each batch then begins
with a synchronization between two streams; if a batch takes only a fraction of a millisecond, a launch that needs none is
faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmx4trt.backends.hopper.plan import Kernel
from cmx4trt.devices.base import LaunchConfiguration, Pointer

if TYPE_CHECKING:
    from cmx4trt.sessions.samples import SampleRows

_THREADS, _IN_FLIGHT, _UNIT = 64, 4, 16
KERNEL = Kernel("gather", "gather.cu", {"IN_FLIGHT": _IN_FLIGHT}, threads=_THREADS, shared_bytes=0)
"""Part of every engine."""
LARGEST = 16
"""Maximum number of samples; for more, copies that overlap with the previous batch are better."""
_BLOCKS_PER_MULTIPROCESSOR = 2


def can_gather(batch: SampleRows) -> bool:
    """Whether the kernel can fetch the batch: a few samples of whole 16-byte units."""
    return len(batch.rows) <= LARGEST and batch.sample_bytes % _UNIT == 0


def gather(function: int, multiprocessors: int, batch: SampleRows, rows: int, target: int) -> LaunchConfiguration:
    """The launch that fetches the samples of ``batch``; their indices are the int32 values at ``rows``."""
    units, count = batch.sample_bytes // _UNIT, len(batch.rows)
    pieces = count * -(-units // (_THREADS * _IN_FLIGHT))
    values = (Pointer(batch.samples.ctypes.data), Pointer(rows), Pointer(target), count, units)
    blocks = min(pieces, _BLOCKS_PER_MULTIPROCESSOR * multiprocessors)
    return LaunchConfiguration(function, blocks, _THREADS, 0, values, "gather")
