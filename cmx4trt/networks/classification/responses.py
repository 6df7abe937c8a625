"""A batch's classes -> LoadGen's responses."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmx4trt.networks.base import Outputs

CLASS_OUTPUTS = ("class", "topk_layer_output_index")
"""Outputs that hold a class index: ours, and that of NVIDIA's MLPerf engines."""


class ClassResponder:
    """One int32 for each sample: its class from 0 (accuracy-imagenet.py --dtype int32).

    ``output`` holds class indices, one per sample; ``background`` is how many precede the first that counts.
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
