"""A batch's detections -> LoadGen's responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cmx4trt.networks.retinanet.records import Records

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cmx4trt.networks.base import Outputs


class DetectionResponder:
    """Seven float32 for each detection (accuracy-openimages.py): sample index, ymin, xmin, ymax, xmax, score, label.

    ``records`` turns outputs into such rows; coordinates are fractions of the image.
    """

    def __init__(self, lg: Any, size: int, records: Records) -> None:
        self._records = records
        self._complete = lg.QuerySamplesComplete
        self._responses = [lg.QuerySampleResponse(0, 0, 0) for _ in range(size)]

    def complete(self, ids: list[int], indices: Sequence[int], outputs: Outputs) -> None:
        """See Responder."""
        rows: list[NDArray[np.float32]] = []
        real = {name: array[: len(ids)] for name, array in outputs.items()}  # without padding
        for response, id_, index, found in zip(self._responses, ids, indices, self._records(real), strict=False):
            found[:, 0] = index
            rows.append(found)  # keeps the bytes alive until LoadGen has copied them
            response.id, response.data, response.size = id_, found.ctypes.data, found.nbytes
        self._complete(self._responses[: len(ids)])
