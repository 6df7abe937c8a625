"""A session that computes nothing, to measure the harness itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cmx4trt.sessions.base import Stream, SynchronousStream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cmx4trt.devices.placement import Placement


class NullSession:
    """Takes no input and immediately answers class 0 for every sample: ``class`` [max_batch] int32, zeros.

    ``copy_streams`` says how many streams it pretends to have.
    """

    inputs: tuple[str, ...] = ()
    outputs = ("class",)
    device = "nothing (null session: every answer is class 0)"
    min_batch = 1
    gathers = False
    placements: tuple[Placement, ...] = ()

    def __init__(self, max_batch: int, copy_streams: int = 1) -> None:
        import numpy as np

        self.max_batch: int | None = max_batch
        self._answer = {"class": np.zeros(max_batch, np.int32)}
        self._streams = [SynchronousStream(self.run) for _ in range(copy_streams)]

    def input_shape(self, name: str) -> tuple[int | str | None, ...]:
        """There are no inputs."""
        raise KeyError(name)

    def input_dtype(self, name: str) -> str:
        """There are no inputs."""
        raise KeyError(name)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Always the same array, with the length of the largest batch."""
        return self._answer

    def streams(self) -> Sequence[Stream]:
        """The pretended streams."""
        return self._streams

    def allocate(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Pageable memory."""
        import numpy as np

        return np.empty(shape, dtype)

    def close(self) -> None:
        """There is nothing to release."""
