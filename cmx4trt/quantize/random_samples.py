"""Images made up where there are none: for networks with random weights, and for ranges that came without images."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cmx4trt.base.progress import Progress
    from cmx4trt.images.files import Shape

_RANDOM_SEED = 20241123


class RandomSamples:
    """Normally distributed images: for networks with random weights, where no image means more than another, and to try a
    network whose ranges came without images. ``spread`` is the standard deviation."""

    def __init__(self, shape: Shape, count: int, spread: float = 1.0, start: int = 0) -> None:
        self.shape = shape
        self._count = count
        self._spread = spread
        self._start = start

    def __len__(self) -> int:
        """Number of images."""
        return self._count

    def read(self, index: int) -> NDArray[np.float32]:
        """Image ``index`` as [1, C, H, W] float32."""
        import numpy as np

        generator = np.random.default_rng((_RANDOM_SEED, self._start + index))
        return generator.standard_normal((1, *self.shape), dtype=np.float32) * np.float32(self._spread)

    def part(self, start: int, stop: int) -> RandomSamples:
        """Images ``start`` to ``stop - 1``."""
        return RandomSamples(self.shape, stop - start, self._spread, self._start + start)

    def digest(self, progress: Progress) -> str:
        """SHA-256 of what determines the images."""
        text = f"normal:{_RANDOM_SEED}:{self._spread}:{self.shape}:{self._start}:{self._count}"
        return hashlib.sha256(text.encode()).hexdigest()
