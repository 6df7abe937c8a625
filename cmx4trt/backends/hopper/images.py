"""Random images for checks and measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


def random_images(seed: int, count: int, shape: tuple[int, ...], scale: float, dtype: str = "int8") -> NDArray[Any]:
    """[N, C, H, W] in an engine's input type; the values after quantization are the same for all types."""
    import numpy as np

    images: NDArray[Any] = np.random.default_rng(seed).integers(-128, 128, (count, *shape), dtype=np.int8)
    return images if dtype == "int8" else (images.astype(np.float32) * np.float32(scale)).astype(dtype)
