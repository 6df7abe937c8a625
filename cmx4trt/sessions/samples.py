"""Batches that a session fetches itself: rows of samples in memory that it allocated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class SampleRows:
    """A batch [N, ...]: ``rows`` of ``samples`` [K, ...], contiguous memory from the session's ``allocate``.

    It replaces an array in feeds; the samples must not be modified until that batch's ``wait``.
    """

    samples: NDArray[Any]
    rows: NDArray[np.int64]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the samples."""
        return self.samples.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the batch."""
        return (len(self.rows), *self.samples.shape[1:])

    @property
    def sample_bytes(self) -> int:
        """Size of one sample in bytes."""
        return self.samples.nbytes // len(self.samples)

    def array(self, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The batch as an array, gathered by the CPU."""
        return self.samples.take(self.rows, axis=0, out=out, mode="clip")  # "raise" would copy through another buffer

    def runs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Consecutive rows: where in the batch such runs begin, and how long they are."""
        import numpy as np

        begin = np.concatenate(([0], np.flatnonzero(np.diff(self.rows) != 1) + 1))
        return begin, np.diff(np.append(begin, len(self.rows)))
