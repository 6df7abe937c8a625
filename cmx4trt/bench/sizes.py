"""Which batch sizes Server uses: derived from batch times measured before the run and from the latency bound."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmx4trt.bench.sut import Feeder
    from cmx4trt.sessions.base import Stream

_STEPS = 4
"""Number of sizes between a power of two and the next: a batch leaves at most a fifth of the queue to the next one."""
_TIMED = 2
"""Number of timed batches per size; the fastest counts."""


def batch_sizes(smallest: int, largest: int) -> tuple[int, ...]:
    """Sizes from ``smallest`` to ``largest``: all up to 8, then four per doubling."""
    sizes, size = {smallest, largest}, 1
    while size < largest:
        step = max(1, (1 << size.bit_length() - 1) // _STEPS)
        sizes.add(size)
        size += step
    return tuple(sorted(size for size in sizes if size >= smallest))


def measure_times(
    stream: Stream,
    feed: Feeder,
    indices: Sequence[int],
    sizes: Sequence[int],
    enough: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[int, float]:
    """Seconds that one batch takes alone, for each of ``sizes``, up to the first that takes longer than ``enough``.

    ``clock``: seconds. Afterwards every buffer of the stream has run every size, so all graphs have been recorded.
    """
    times: dict[int, float] = {}
    for size in sizes:
        found = []
        for _ in range(stream.depth + _TIMED):
            start = clock()
            stream.execute(feed(list(indices[:size])))
            found.append(clock() - start)
        times[size] = min(found[-_TIMED:])
        if times[size] > enough:
            break
    return times


def sizes_within(times: Mapping[int, float], bound: float, depth: int) -> tuple[int, ...]:
    """The sizes that meet the latency ``bound`` whatever is in flight; at least the smallest.

    Before its own batch, a sample waits for at most ``depth`` others if none is larger and the load is sustainable.
    """
    smallest, *others = sorted(times)
    return (smallest, *(size for size in others if (depth + 1) * times[size] <= bound))
