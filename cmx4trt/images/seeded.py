"""Synthetic images: random fields with structures of several sizes, as smooth and as varied as photographs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SEED = 20241123
GRIDS = (10, 40, 160)
"""Grid sizes of the random fields whose mean is an image: large, medium and small structures."""


def seeded_images(shape: tuple[int, int, int], count: int) -> NDArray[np.float32]:
    """Images [N, C, H, W] of pixels 0..1, always the same."""
    import numpy as np

    random = np.random.default_rng(SEED)
    channels, height, width = shape
    image = np.zeros((count, *shape), np.float32)
    for cells in GRIDS:
        field = random.random((count, channels, cells, cells), dtype=np.float32)
        image += _enlarged(_enlarged(field, height).swapaxes(2, 3), width).swapaxes(2, 3) / np.float32(len(GRIDS))
    return image


def _enlarged(field: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Linear interpolation of [N, C, h, w] along h to ``size`` rows, half-pixel centers, borders repeated."""
    import numpy as np

    cells = field.shape[2]
    places = np.clip((np.arange(size) + 0.5) * cells / size - 0.5, 0, cells - 1)
    low = np.minimum(places.astype(int), cells - 2)
    share = (places - low).astype(np.float32)[:, None]
    enlarged: NDArray[np.float32] = field[:, :, low] * (1 - share) + field[:, :, low + 1] * share
    return enlarged
