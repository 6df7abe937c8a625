"""From pixels to a network's input."""

from __future__ import annotations

import numpy as np
import pytest

from cmx4trt.errors import DataError
from cmx4trt.images.normalization import IMAGENET_MEAN, IMAGENET_STD, InputForm


def test_every_channel_has_its_own_mean_and_deviation() -> None:
    pixels = np.stack([np.full((2, 2), mean) for mean in IMAGENET_MEAN])[None].astype(np.float32)
    form = InputForm(IMAGENET_MEAN, IMAGENET_STD)
    np.testing.assert_allclose(form.normalize(pixels), 0, atol=1e-7)
    brighter = pixels + np.array(IMAGENET_STD, np.float32).reshape(1, 3, 1, 1)
    np.testing.assert_allclose(form.normalize(brighter), 1, rtol=1e-6)
    assert form.normalize(pixels).dtype == np.float32


def test_a_network_that_normalizes_itself_takes_pixels() -> None:
    assert InputForm((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)).takes_pixels
    assert not InputForm(IMAGENET_MEAN, IMAGENET_STD).takes_pixels


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_float_input_is_the_image(dtype: type) -> None:
    image, out = np.full((3, 1, 1), 0.1, np.float32), np.empty((3, 1, 1), dtype)
    InputForm(IMAGENET_MEAN, IMAGENET_STD).write(image, out)
    np.testing.assert_array_equal(out, image.astype(dtype))


def test_an_int8_input_is_rounded_to_its_scale_and_saturates() -> None:
    image, out = np.array([-9.0, -0.26, 0.24, 9.0], np.float32).reshape(1, 2, 2), np.empty((1, 2, 2), np.int8)
    InputForm(IMAGENET_MEAN, IMAGENET_STD, scale=0.05).write(image, out)
    assert out.reshape(-1).tolist() == [-128, -5, 5, 127]
    with pytest.raises(DataError, match="no scale for them; build it again"):
        InputForm(IMAGENET_MEAN, IMAGENET_STD).write(image, out)
