from __future__ import annotations

import numpy as np

from cmx4trt.base.progress import Silent
from cmx4trt.quantize.random_samples import RandomSamples

SHAPE = (3, 4, 5)


def test_random_samples_are_a_series() -> None:
    samples = RandomSamples(SHAPE, 6, spread=2.0)
    rest = samples.part(4, 6)
    assert len(rest) == 2
    assert np.array_equal(rest.read(1), samples.read(5))
    assert not np.array_equal(samples.read(0), samples.read(1))
    assert samples.digest(Silent()) != rest.digest(Silent())
