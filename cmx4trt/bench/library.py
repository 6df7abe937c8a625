"""LoadGen's query sample library: the samples of a run in memory, ready to be fed.

A session that gathers gets row indices into that memory and fetches the rows itself. For others, LoadGen's Offline queries use
the samples in the order in which they were loaded, so most batches are a slice and are fed without a copy; the others are
gathered into a buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cmx4trt.bench.memory import free_memory, megabytes
from cmx4trt.bench.sut import Failure, Feeder
from cmx4trt.errors import DataError, DeviceError
from cmx4trt.sessions.samples import SampleRows
from cmx4trt.store.results import SampleMemory

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cmx4trt.bench.datasets import Dataset
    from cmx4trt.sessions.base import Session

_NOTHING: Mapping[str, Any] = {}
_LESS = "lower performance_sample_count_override in user.conf, or the batch size"


class SampleLibrary:
    """The samples LoadGen requested, [K, C, H, W] in memory chosen by the session; empty for a session without inputs."""

    def __init__(
        self,
        dataset: Dataset,
        session: Session,
        failure: Failure,
        note: Callable[[str], None] = lambda text: None,
        free_memory: Callable[[], int | None] = free_memory,
    ) -> None:
        """``note`` receives a warning if memory is slower than it should be; ``free_memory``: bytes, None if unknown."""
        self._dataset = dataset
        self._session = session
        self._failure = failure
        self._note = note
        self._free_memory = free_memory
        self._memory: NDArray[Any] | None = None
        self._gathers = session.gathers
        self._refused = False
        self._order: list[int] = []
        self._row_of: dict[int, int] = {}

    def reserve(self, count: int) -> None:
        """Allocate memory for this many samples, once for the whole run. Raises DataError if they do not fit."""
        if self._session.inputs and (self._memory is None or len(self._memory) < count):
            self._memory = None  # free the old one first
            self._memory = self._allocate(count)

    @property
    def held(self) -> SampleMemory | None:
        """Its size, for results; None for a session without inputs."""
        if self._memory is None:
            return None
        return SampleMemory(len(self._memory), self._memory.nbytes, self._gathers)

    def load(self, indices: list[int]) -> None:
        """Read the samples in this order; LoadGen may name a sample more than once (MultiStream's padding)."""
        try:
            self.read(list(dict.fromkeys(indices)))
        except BaseException as error:  # must not propagate through LoadGen: see sut
            self._failure.report(error)

    def read(self, indices: list[int]) -> None:
        """Like ``load``, with each sample once; raises DataError."""
        self._order = indices
        self._row_of = {index: row for row, index in enumerate(indices)}
        self.reserve(len(indices))
        if self._memory is None:
            return
        for row, index in enumerate(indices):
            if self._failure.error is not None:
                return  # interrupted meanwhile
            self._dataset.read(index, self._memory[row])

    def unload(self, indices: list[int]) -> None:
        """Keep the memory: it is reused for the next set."""

    def feeder(self, depth: int, size: int) -> Feeder:
        """Feeds for batches of at most ``size`` samples, ``depth`` of them in flight at once; used by one thread."""
        if not self._session.inputs:
            return lambda indices: _NOTHING
        if self._gathers:
            return self._rows_of
        return _Gather(self, self._session.inputs[0], self._session.min_batch, depth, size).feed

    def rows(self, indices: Sequence[int]) -> tuple[NDArray[Any], slice | list[int]]:
        """The loaded samples and the rows that ``indices`` refer to: a slice if they are consecutive."""
        assert self._memory is not None
        first = self._row_of[indices[0]]
        if self._order[first : first + len(indices)] == indices:
            return self._memory, slice(first, first + len(indices))
        return self._memory, [self._row_of[index] for index in indices]

    def buffer(self, like: NDArray[Any], size: int) -> NDArray[Any]:
        """Memory for a batch of ``size`` samples."""
        import numpy as np

        shape = (size, *like.shape[1:])
        return np.empty(shape, like.dtype) if self._refused else self._session.allocate(shape, str(like.dtype))

    def _rows_of(self, indices: Sequence[int]) -> Mapping[str, Any]:
        """One batch for a session that gathers; padding repeats the last sample."""
        import numpy as np

        assert self._memory is not None
        rows = [*map(self._row_of.__getitem__, indices)]
        rows += rows[-1:] * (self._session.min_batch - len(rows))  # nothing if that is negative
        return {self._session.inputs[0]: SampleRows(self._memory, np.array(rows, np.int64))}

    def _allocate(self, count: int) -> NDArray[Any]:
        import numpy as np

        shape, dtype = (count, *self._dataset.shape), self._session.input_dtype(self._session.inputs[0])
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        what = f"{count} samples of {list(self._dataset.shape)} {dtype} take {megabytes(size)}"
        free = self._free_memory()
        if free is not None and size > free:
            raise DataError(f"{what} of memory, but {megabytes(free)} are free; {_LESS}")
        try:
            return self._session.allocate(shape, dtype)
        except MemoryError as error:
            raise DataError(f"{what} and do not fit into memory; {_LESS}") from error
        except DeviceError as error:
            self._gathers, self._refused = False, True
            self._note(f"{what}, which cannot be page-locked ({error.cause}); the CPU gathers batches, which is slower")
            return np.empty(shape, dtype)


class _Gather:
    """Buffers of one copy stream for batches that are not a slice or must be padded."""

    def __init__(self, library: SampleLibrary, name: str, min_batch: int, depth: int, size: int) -> None:
        self._library = library
        self._name = name
        self._min_batch = min_batch
        self._size = max(size, min_batch)
        self._buffers: list[NDArray[Any] | None] = [None] * depth
        self._next = 0

    def feed(self, indices: Sequence[int]) -> Mapping[str, NDArray[Any]]:
        """One batch [max(N, min_batch), C, H, W]; padding repeats the last sample."""
        samples, rows = self._library.rows(indices)
        missing = self._min_batch - len(indices)
        if missing <= 0 and isinstance(rows, slice):
            return {self._name: samples[rows]}
        chosen = list(range(rows.start, rows.stop)) if isinstance(rows, slice) else rows
        chosen += chosen[-1:] * missing  # nothing if ``missing`` is negative
        buffer = self._buffer(samples)[: len(chosen)]
        samples.take(chosen, axis=0, out=buffer, mode="clip")  # "raise" would copy through another buffer
        return {self._name: buffer}

    def _buffer(self, samples: NDArray[Any]) -> NDArray[Any]:
        index = self._next
        self._next = (index + 1) % len(self._buffers)
        buffer = self._buffers[index]
        if buffer is None:
            buffer = self._library.buffer(samples, self._size)
            self._buffers[index] = buffer
        return buffer
