"""Statistics of activations that grow image by image in constant memory, and the ranges taken from them.

Observers share one shape: ``add`` takes what the instrumented graph returns for one image, ``state`` and ``restore`` serve
an interrupted run, ``ranges`` or ``means`` give the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from cmx4trt.errors import DataError
from cmx4trt.graph.precision import FLOAT16_MAX
from cmx4trt.quantize.thresholds import HALF_CODES, HALF_INFINITY, count_codes, energy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cmx4trt.quantize.thresholds import Threshold


SMALLEST_FINE_RANGE = 2.0**-10
"""Tensors below this have lost precision to float16's subnormals (spaced 2^-24): 2^-10 still has 2^14 steps."""


class Observer(Protocol):
    """Statistics over the images seen so far."""

    def add(self, observed: Mapping[str, NDArray[Any]]) -> None:
        """Take in one image. Raises DataError where a value is not finite."""

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything seen so far."""

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from a ``state``."""


class RangeObserver(Observer, Protocol):
    """An observer of magnitudes."""

    def ranges(self) -> dict[str, float]:
        """The magnitude that each tensor's largest level stands for."""


class ExtremesObserver:
    """The largest magnitude of every tensor; the graph itself reduces each tensor to its extremes, and to its sum, which shows
    what they do not: a maximum passes over what is not a number."""

    OUTPUT = "observed_extremes"

    def __init__(self, tensors: Sequence[str]) -> None:
        import numpy as np

        self.tensors = tuple(tensors)
        self._largest = np.zeros(len(self.tensors), np.float32)

    def add(self, observed: Mapping[str, NDArray[Any]]) -> None:
        """``observed[OUTPUT]`` is [3, T]: all maxima, all minima, all sums."""
        import numpy as np

        largest, smallest, total = observed[self.OUTPUT].reshape(3, -1)
        magnitude = np.maximum(np.abs(largest), np.abs(smallest))
        bad = np.flatnonzero(~np.isfinite(magnitude) | np.isnan(total))
        if len(bad):
            raise DataError(
                f"tensor '{self.tensors[bad[0]]}' has values that are not finite on a calibration image, computed in float32; "
                "check the model and the images"
            )
        self._largest = np.maximum(self._largest, magnitude)

    def ranges(self) -> dict[str, float]:
        """The largest magnitude seen."""
        return dict(zip(self.tensors, map(float, self._largest), strict=True))

    def state(self) -> dict[str, NDArray[Any]]:
        """The maxima [T]."""
        return {"largest": self._largest}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from a ``state``."""
        self._largest = state["largest"]


class HistogramObserver:
    """How often each float16 magnitude occurs: an exact, mergeable histogram that needs no range in advance.

    The graph casts every tensor to float16, whose 31744 finite magnitudes serve as bins: 0.05 % relative resolution over
    the whole range, so one pass over the images is enough and the order of images does not matter.
    """

    def __init__(self, tensors: Sequence[str], thresholds: Sequence[Threshold], power: float = 0.0) -> None:
        """``thresholds``: for each tensor how its magnitude is chosen. An image's counts are divided by this ``power`` of its
        energy in that tensor: at 1 every image has the same weight in a sum of squared errors, however large its values are."""
        import numpy as np

        self.tensors = tuple(tensors)
        self._thresholds = tuple(thresholds)
        self._power = power
        self._counts = np.zeros((len(self.tensors), HALF_CODES), np.float64 if power else np.int64)

    def add(self, observed: Mapping[str, NDArray[Any]]) -> None:
        """``observed[half_name(t)]`` is tensor ``t`` as float16."""
        for row, tensor in zip(self._counts, self.tensors, strict=True):
            counts = count_codes(observed[half_name(tensor)])
            if counts[HALF_INFINITY:].any():
                raise DataError(
                    f"tensor '{tensor}' exceeds float16's {FLOAT16_MAX:,.0f} on a calibration image; TensorRT's int8 engines "
                    "hold it in float16, so build with --precision=bf16 or fp32 (for other builders: --calibration_method=minmax)"
                )
            row += self._weighted(counts)

    def _weighted(self, counts: NDArray[np.int64]) -> NDArray[Any]:
        return counts / ((energy(counts) or 1.0) ** self._power) if self._power else counts

    def ranges(self) -> dict[str, float]:
        """The threshold that the method chooses for each tensor."""
        rows = zip(self.tensors, self._thresholds, self._counts, strict=True)
        found = {tensor: threshold(row) for tensor, threshold, row in rows}
        for tensor, largest in found.items():
            if 0 < largest < SMALLEST_FINE_RANGE:
                raise DataError(
                    f"tensor '{tensor}' stays below {largest:.3g}, where the histogram's float16 bins are too coarse; "
                    "use --calibration_method=minmax"
                )
        return found

    def state(self) -> dict[str, NDArray[Any]]:
        """The counts [T, 32768]."""
        return {"counts": self._counts}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from a ``state``."""
        self._counts = state["counts"]


class MeansObserver:
    """The mean of each channel of some tensors over images and positions; the graph averages over the positions."""

    OUTPUT = "observed_means"

    def __init__(self, channels: Mapping[str, int]) -> None:
        import numpy as np

        self._channels = dict(channels)
        self._sum = np.zeros(sum(channels.values()), np.float64)
        self._images = 0

    def add(self, observed: Mapping[str, NDArray[Any]]) -> None:
        """``observed[OUTPUT]`` holds the channels of all tensors, one after the other."""
        self._sum += observed[self.OUTPUT]
        self._images += 1

    def means(self) -> dict[str, NDArray[np.float32]]:
        """The mean of each channel, float32 [C], by tensor."""
        import numpy as np

        ends = np.cumsum(list(self._channels.values()))
        parts = np.split((self._sum / max(self._images, 1)).astype(np.float32), ends[:-1])
        return dict(zip(self._channels, parts, strict=True))

    def state(self) -> dict[str, NDArray[Any]]:
        """The sums and the number of images."""
        import numpy as np

        return {"sum": self._sum, "images": np.array(self._images)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from a ``state``."""
        self._sum, self._images = state["sum"], int(state["images"])


def half_name(tensor: str) -> str:
    """The graph output that holds ``tensor`` as float16."""
    return f"{tensor}_observed_half"
