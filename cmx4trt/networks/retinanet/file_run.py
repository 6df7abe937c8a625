"""A detector's file in ONNX Runtime: the detections and the head tensors that it gives for each image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cmx4trt.errors import ModelError
from cmx4trt.graph.execution import open_original
from cmx4trt.ir.onnx_file import EncodedGraph, with_output
from cmx4trt.networks.retinanet.details import Detector, head_names
from cmx4trt.networks.retinanet.detections import Detections, candidates_from_heads, finish_detections
from cmx4trt.networks.retinanet.image_inputs import INPUT, feeds
from cmx4trt.networks.retinanet.matching import compare_exactly
from cmx4trt.networks.retinanet.options import NORMALIZED, RetinaNetOptions
from cmx4trt.sessions.batches import as_file_takes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = Any
    Arrays = Mapping[str, Array]


class FileRun:
    """``file``: the model as it was read. ``heads``: the graph's names of head tensors with the file's, class and box in turn."""

    def __init__(self, file: EncodedGraph, detector: Detector) -> None:
        self._detector = detector
        classes, boxes = head_names(len(detector.levels))
        names = [name for pair in zip(classes, boxes, strict=True) for name in pair]
        self.heads = list(zip(names, detector.file_heads, strict=True))
        appended = [with_output(b"", head) for head in detector.file_heads]  # the file itself is copied once
        message = b"".join((file.message, *appended))
        self._session = open_original(EncodedGraph(message, file.constants), detector.source_precision)

    def typed(self, images: NDArray[Any]) -> NDArray[Any]:
        """Images [N, 3, H, W] in the type and the order of axes that the file takes."""
        return as_file_takes(self._session, images)

    def run(self, images: NDArray[Any]) -> list[tuple[Detections, Arrays]]:
        """Detections and heads [1, C, H, W], under the graph's names, of each of ``images`` [N, 3, H, W] in [0, 1].

        A file that takes several at a time gets images again in the places that are left; what it gives for these follows.
        """
        size = self._detector.file_batch
        found: list[tuple[Detections, Arrays]] = []
        for start in range(0, len(images), size):
            places = [(start + place) % len(images) for place in range(size)]
            results = self._session.run(feeds(self._session, images[places]))
            detections = detections_of_results(results, self._detector)
            heads = [{own: results[head][place : place + 1] for own, head in self.heads} for place in range(size)]
            found += zip(detections, heads, strict=True)
        return found

    def close(self) -> None:
        """Free the session."""
        self._session.close()


class QuantizedDetector:
    """See ``networks.base.QuantizedFile``. The file's detections are compared with those that its heads lead to, unless the file
    rounds in between."""

    inputs = (INPUT,)

    def __init__(self, file: EncodedGraph, detector: Detector, options: RetinaNetOptions) -> None:
        self._run, self._detector, self._options = FileRun(file, detector), detector, options
        self.consistent = True

    def input_dtype(self, name: str) -> str:
        """What the images are given in."""
        return "float32"

    def run(self, feeds: Arrays) -> Arrays:
        """The heads [1, C, H, W] of one image, which is normalized unless the graph normalizes."""
        import numpy as np

        image, normalization = feeds[INPUT], self._detector.normalization
        if self._options.input_range == NORMALIZED:
            mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in (normalization.mean, normalization.std))
            image = image * std + mean
        rows = self._run.run(image)
        if not self._detector.rounded_behind:
            self.consistent = self.consistent and all(self._follows(*row) for row in rows)
        return rows[0][1]

    def _follows(self, detections: Detections, heads: Arrays) -> bool:
        detector, spec = self._detector, self._detector.spec
        rows = candidates_from_heads(heads, 0, detector)
        return (
            compare_exactly(detections, finish_detections(rows, spec, self._options.nms_offset), spec).unexplained == 0
        )


def detections_of_results(results: Arrays, detector: Detector) -> list[Detections]:
    """The file's results by shapes and types: boxes [n, 4], scores [n] float, labels [n] integer of each image in turn."""
    import numpy as np

    values = [results[name] for name in detector.file_results]
    boxes = [v for v in values if v.ndim == 2 and v.shape[1] == 4]
    scores = [v for v in values if v.ndim == 1 and v.dtype.kind == "f"]
    labels = [v for v in values if v.ndim == 1 and v.dtype.kind in "iu"]
    size = detector.file_batch
    if not len(boxes) == len(scores) == len(labels) == size:
        shown = ", ".join(f"{v.dtype}{list(v.shape)}" for v in values)
        each = "" if size == 1 else f" of each of {size} images"
        raise ModelError(
            f"the model's results cannot be compared: got {shown}, expected boxes [n, 4], scores [n] and integer labels "
            f"[n]{each}; build with --verify=no if that is intended"
        )
    return [Detections(b, s, n.astype(np.int32)) for b, s, n in zip(boxes, scores, labels, strict=True)]
