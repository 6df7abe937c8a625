from __future__ import annotations

import numpy as np

from cmx4trt.images.seeded import GRIDS, seeded_images


def test_images_are_seeded_and_in_range() -> None:
    images = seeded_images((3, 40, 60), 2)
    assert images.shape == (2, 3, 40, 60)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert images.std() > 0.1
    np.testing.assert_array_equal(images, seeded_images((3, 40, 60), 2))
    assert len(GRIDS) == 3
    assert not np.array_equal(images[0], images[1])
