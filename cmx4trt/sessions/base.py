"""Execution of graphs and engines: the interface between verification, benchmarks and backends.

Feeds and outputs are mappings from tensor names to arrays whose first axis is the batch, [N, ...].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cmx4trt.devices.placement import Placement


class Stream(Protocol):
    """One copy stream of a session, with its own buffers; used by one thread at a time, by any thread.

    Batches are returned in the order in which they were submitted.
    """

    @property
    def depth(self) -> int:
        """Maximum number of submitted batches that have not been waited for; 1 or more."""

    def submit(self, feeds: Mapping[str, Any]) -> None:
        """Begin to execute one batch. ``feeds`` has every input, in its dtype, and must not be modified until that batch's
        ``wait``.

        They are arrays, or SampleRows if the session ``gathers``. Raises DeviceError if the device refuses.
        """

    def wait(self) -> Mapping[str, NDArray[Any]]:
        """All outputs of the oldest submitted batch; valid until ``depth`` further batches have been submitted.

        Raises DeviceError if the execution failed.
        """

    def execute(self, feeds: Mapping[str, Any]) -> Mapping[str, NDArray[Any]]:
        """``submit`` and ``wait`` in one, with the lowest latency; nothing may be pending."""


class Session(Protocol):
    """A graph or an engine, ready to run."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""

    @property
    def device(self) -> str:
        """A description of what executes: library, version, processor."""

    @property
    def min_batch(self) -> int:
        """The smallest batch it takes (an optimization profile's minimum); smaller ones are padded by the caller."""

    @property
    def max_batch(self) -> int | None:
        """The largest batch it takes; None if there is no limit."""

    @property
    def placements(self) -> Sequence[Placement]:
        """The GPU of every stream; empty if unknown."""

    @property
    def gathers(self) -> bool:
        """Whether its streams take ``SampleRows``: they fetch a batch's samples themselves, without the CPU."""

    def input_shape(self, name: str) -> tuple[int | str | None, ...]:
        """The declared shape of an input; dynamic dimensions are symbols or None."""

    def input_dtype(self, name: str) -> str:
        """The numpy name of an input's element type."""

    def run(self, feeds: Mapping[str, Any]) -> Mapping[str, NDArray[Any]]:
        """All outputs for one batch; blocks until they are available. Uses the first stream."""

    def streams(self) -> Sequence[Stream]:
        """The copy streams: one per optimization profile of an engine, one for a graph."""

    def allocate(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Host memory that this runtime reads fastest (page-locked for a GPU); uninitialized.

        Raises MemoryError, or DeviceError if page-locked memory cannot be allocated.
        """

    def close(self) -> None:
        """Release the device's resources; afterwards nothing else may be called."""


class SynchronousStream:
    """A Stream for a blocking runtime: ``submit`` calls ``run`` immediately."""

    depth = 1

    def __init__(self, run: Callable[[Mapping[str, NDArray[Any]]], Mapping[str, NDArray[Any]]]) -> None:
        self._run = run
        self._outputs: Mapping[str, NDArray[Any]] = {}

    def submit(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        """Run ``feeds`` now."""
        self._outputs = self._run(feeds)

    def wait(self) -> Mapping[str, NDArray[Any]]:
        """What ``submit`` computed."""
        return self._outputs

    def execute(self, feeds: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run ``feeds``."""
        return self._run(feeds)
