"""A detector's outputs, in each of the forms an engine may have them, -> MLPerf's detection records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cmx4trt.networks.retinanet.detections import RECORD, detections_from_outputs
from cmx4trt.networks.retinanet.spec import DetectorSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Records = Callable[[Mapping[str, "NDArray[Any]"]], Iterable["NDArray[np.float32]"]]
"""Outputs [N, ...] -> for each sample an array [D, 7] float32 of its own: free, ymin, xmin, ymax, xmax (fractions of the image),
score, label."""


def records_of_tensors(spec: DetectorSpec, height: int, width: int, offset: bool) -> Records:
    """For the outputs ``boxes``, ``scores``, … of an image of that size; ``offset`` is the engine's ``nms_offset``."""
    import numpy as np

    scale = np.array([height, width, height, width], np.float32)

    def records(outputs: Mapping[str, NDArray[Any]]) -> Iterable[NDArray[np.float32]]:
        for found in detections_from_outputs(outputs, spec, offset):
            rows = np.empty((len(found), RECORD), np.float32)
            rows[:, 1:5] = found.boxes[:, [1, 0, 3, 2]] / scale
            rows[:, 5] = found.scores
            rows[:, 6] = found.labels
            yield rows

    return records


def records_of_nvidia(output: str) -> Records:
    """For NVIDIA's layout [N, 7 D + 1]: D records and, last, how many of them count."""
    import numpy as np

    def records(outputs: Mapping[str, NDArray[Any]]) -> Iterable[NDArray[np.float32]]:
        for values in outputs[output]:
            found = int(values.reshape(-1)[-1])
            yield np.array(values.reshape(-1)[: found * RECORD], np.float32).reshape(found, RECORD)

    return records
