"""How pixels become a network's input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cmx4trt.base.frozen import Frozen
from cmx4trt.errors import DataError
from cmx4trt.images.int8 import quantized_image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RGB = tuple[float, float, float]
IMAGENET_MEAN: RGB = (0.485, 0.456, 0.406)
IMAGENET_STD: RGB = (0.229, 0.224, 0.225)
"""ImageNet's channel means and standard deviations, torchvision's normalization of pixels 0..1."""


class InputForm(Frozen):
    """A network's input: (pixel - mean) / std for pixels 0..1; for an int8 input, divided by ``scale`` and rounded.

    ``stored_as_pixels``: files may also contain pixels 0..1 that are not normalized yet.
    """

    mean: RGB
    std: RGB
    scale: float | None = None
    stored_as_pixels: bool = False

    @property
    def takes_pixels(self) -> bool:
        """Whether the network itself normalizes."""
        return self.mean == (0.0, 0.0, 0.0) and self.std == (1.0, 1.0, 1.0)

    def normalize(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pixels 0..1 [..., C, H, W] normalized for the network, still float32."""
        import numpy as np

        mean, std = (np.array(values, np.float32).reshape(-1, 1, 1) for values in (self.mean, self.std))
        normal: NDArray[np.float32] = (pixels - mean) / std
        return normal

    def write(self, image: NDArray[np.float32], out: NDArray[Any]) -> None:
        """Write a normalized image into ``out`` [C, H, W], in its dtype. Raises DataError for int8 without a known scale."""
        if out.dtype != "int8":
            out[...] = image
            return
        if self.scale is None:
            raise DataError("the engine takes int8 images, but its manifest has no scale for them; build it again")
        out[...] = quantized_image(image, self.scale)
