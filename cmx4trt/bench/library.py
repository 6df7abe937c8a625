"""LoadGen's query sample library: the samples of a run in memory, ready to be fed.

LoadGen's Offline queries go through the loaded samples in the order they were loaded, so most batches are a slice of that memory
and are fed without a copy; other batches are gathered into a buffer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cmx4trt.bench.sut import Failure, Feeder
from cmx4trt.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cmx4trt.bench.datasets import Dataset
    from cmx4trt.sessions.base import Session

_NOTHING: Mapping[str, Any] = {}


class SampleLibrary:
    """The samples LoadGen asked for, [K, C, H, W] in memory of the session's choice; empty for a session without inputs."""

    def __init__(self, dataset: Dataset, session: Session, failure: Failure) -> None:
        self._dataset = dataset
        self._session = session
        self._failure = failure
        self._samples: NDArray[Any] | None = None
        self._order: list[int] = []
        self._row_of: dict[int, int] = {}

    def load(self, indices: list[int]) -> None:
        """Read the samples, in this order; LoadGen may name one more than once (MultiStream's padding)."""
        try:
            self.read(list(dict.fromkeys(indices)))
        except BaseException as error:  # must not go through LoadGen: see sut
            self._failure.report(error)

    def read(self, indices: list[int]) -> None:
        """As ``load``, each sample once; raises DataError."""
        self._order = indices
        self._row_of = {index: row for row, index in enumerate(indices)}
        if not self._session.inputs:
            return
        name = self._session.inputs[0]
        if self._samples is None or len(self._samples) < len(indices):
            self._samples = None  # free the old ones first
            shape = (len(indices), *self._dataset.shape)
            try:
                self._samples = self._session.allocate(shape, self._session.input_dtype(name))
            except MemoryError as error:
                raise DataError(
                    f"{len(indices)} samples of {list(self._dataset.shape)} do not fit into memory; lower "
                    "performance_sample_count_override in user.conf, or the batch size"
                ) from error
        for row, index in enumerate(indices):
            if self._failure.error is not None:
                return  # interrupted meanwhile
            self._dataset.read(index, self._samples[row])

    def unload(self, indices: list[int]) -> None:
        """Keep the memory: the next set takes its place."""

    def feeder(self, depth: int, size: int) -> Feeder:
        """Feeds for batches of at most ``size`` samples, ``depth`` of them under way at once; used by one thread."""
        if not self._session.inputs:
            return lambda indices: _NOTHING
        return _Gather(self, self._session, depth, max(size, self._session.min_batch)).feed

    def rows(self, indices: Sequence[int]) -> tuple[NDArray[Any], slice | list[int]]:
        """The loaded samples and which of their rows ``indices`` are: a slice where they follow one another."""
        assert self._samples is not None
        first = self._row_of[indices[0]]
        if self._order[first : first + len(indices)] == indices:
            return self._samples, slice(first, first + len(indices))
        return self._samples, [self._row_of[index] for index in indices]


class _Gather:
    """Buffers of one copy stream for the batches that are no slice, or must be padded."""

    def __init__(self, library: SampleLibrary, session: Session, depth: int, size: int) -> None:
        self._rows = library.rows
        self._session = session
        self._name = session.inputs[0]
        self._size = size
        self._buffers: list[NDArray[Any] | None] = [None] * depth
        self._next = 0

    def feed(self, indices: Sequence[int]) -> Mapping[str, NDArray[Any]]:
        """One batch [max(N, min_batch), C, H, W]; padding repeats the last sample."""
        samples, rows = self._rows(indices)
        missing = self._session.min_batch - len(indices)
        if missing <= 0 and isinstance(rows, slice):
            return {self._name: samples[rows]}
        chosen = list(range(rows.start, rows.stop)) if isinstance(rows, slice) else rows
        chosen += chosen[-1:] * missing  # nothing where ``missing`` is negative
        buffer = self._buffer(samples)[: len(chosen)]
        samples.take(chosen, axis=0, out=buffer, mode="clip")  # "raise" would copy through another buffer
        return {self._name: buffer}

    def _buffer(self, samples: NDArray[Any]) -> NDArray[Any]:
        index = self._next
        self._next = (index + 1) % len(self._buffers)
        buffer = self._buffers[index]
        if buffer is None:
            buffer = self._session.allocate((self._size, *samples.shape[1:]), str(samples.dtype))
            self._buffers[index] = buffer
        return buffer
