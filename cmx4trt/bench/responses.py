"""A batch's outputs -> LoadGen's responses, in the bytes that MLPerf's accuracy scripts read.

LoadGen copies the bytes before ``QuerySamplesComplete`` returns, so response objects and buffers are made once and used for
every batch: setting an id costs a fifth of making an object (benchmarks/harness.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from cmx4trt.bench.records import Records, records_of_nvidia, records_of_tensors
from cmx4trt.errors import UnsupportedError
from cmx4trt.graph.spec import ModelSpec, Task
from cmx4trt.networks.retinanet.spec import DetectorSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IMAGENET_CLASSES = 1000
Outputs = Mapping[str, "NDArray[Any]"]


class Responder(Protocol):
    """Answers the samples of one batch; belongs to one thread."""

    def complete(self, ids: list[int], indices: Sequence[int], outputs: Outputs) -> None:
        """Tell LoadGen the answers of the samples ``indices``; ``outputs`` may hold more rows than that (padding)."""


def refuse(lg: Any, ids: Sequence[int]) -> None:
    """Answer with no bytes: after a failure, so that LoadGen comes to an end."""
    lg.QuerySamplesComplete([lg.QuerySampleResponse(i, 0, 0) for i in ids])


class ClassResponder:
    """One int32 for each sample: the ImageNet class 0..999 (accuracy-imagenet.py --dtype int32).

    ``output`` holds class indices, one per sample; ``background`` is how many classes precede ImageNet's first.
    """

    def __init__(self, lg: Any, size: int, output: str, background: int) -> None:
        import numpy as np

        self._buffer = np.zeros(size, np.int32)
        self._output, self._background = output, background
        self._complete = lg.QuerySamplesComplete
        self._set_id = lg.QuerySampleResponse.id.fset
        address, width = self._buffer.ctypes.data, self._buffer.itemsize
        self._responses = [lg.QuerySampleResponse(0, address + width * i, width) for i in range(size)]
        self._size = size

    def complete(self, ids: list[int], indices: Sequence[int], outputs: Outputs) -> None:
        """See Responder."""
        count = len(ids)
        classes = outputs[self._output].reshape(-1)[:count]
        self._buffer[:count] = classes - self._background if self._background else classes
        responses = self._responses if count == self._size else self._responses[:count]
        deque(map(self._set_id, responses, ids), 0)  # a loop without the interpreter
        self._complete(responses)


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


ResponderFactory = Callable[[Any, int], Responder]
"""Makes a responder of a LoadGen module and the largest batch; called once for each thread."""

CLASS_OUTPUTS = ("class", "topk_layer_output_index")
"""Outputs that hold a class index: ours, and that of NVIDIA's MLPerf engines."""
RECORD_OUTPUT, TENSOR_OUTPUT = "nmsopt_output", "candidates"
"""What tells a detector's two layouts apart."""


def responder_for(spec: ModelSpec, outputs: Sequence[str], classes: int, nms_offset: bool = True) -> ResponderFactory:
    """What answers for a network with these outputs; ``classes``: how many logits a classifier has (1001: one is background).

    Raises UnsupportedError where the outputs are none that accuracy scripts can be served from.
    """
    if spec.task is Task.CLASSIFICATION:
        output = next((name for name in CLASS_OUTPUTS if name in outputs), None)
        if output is not None:
            return lambda lg, size: ClassResponder(lg, size, output, max(0, classes - IMAGENET_CLASSES))
    elif RECORD_OUTPUT in outputs:
        return lambda lg, size: DetectionResponder(lg, size, records_of_nvidia(RECORD_OUTPUT))
    elif TENSOR_OUTPUT in outputs and isinstance(spec.details, DetectorSpec):
        records = records_of_tensors(spec.details, spec.input_shape[1], spec.input_shape[2], nms_offset)
        return lambda lg, size: DetectionResponder(lg, size, records)
    raise UnsupportedError(
        f"an engine of {spec.title} with the outputs {', '.join(outputs)} gives no classes or detections, which LoadGen's "
        "accuracy log is made of; build it with the default outputs"
    )
