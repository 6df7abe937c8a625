"""Runs images through sessions with other batch sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession


class Runnable(Protocol):
    """What of a session running images takes."""

    @property
    def max_batch(self) -> int | None:
        """The largest batch; None where any will do."""

    @property
    def inputs(self) -> Sequence[str]:
        """The names of the inputs."""

    def input_dtype(self, name: str) -> str:
        """The numpy name of the element type of input ``name``."""

    def run(self, feeds: Mapping[str, Any]) -> Mapping[str, NDArray[Any]]:
        """All outputs for one batch."""


def run_in_batches(session: Runnable, images: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """All outputs for images [N, C, H, W], at most ``session.max_batch`` at a time."""
    import numpy as np

    size = session.max_batch or len(images)
    typed = images.astype(session.input_dtype(session.inputs[0]))
    parts = [dict(session.run({session.inputs[0]: typed[i : i + size]})) for i in range(0, len(typed), size)]
    return parts[0] if len(parts) == 1 else {n: np.concatenate([part[n] for part in parts]) for n in parts[0]}


def as_file_takes(original: OnnxRuntimeSession, images: NDArray[Any]) -> NDArray[Any]:
    """Images [N, C, H, W] in the type and the order of axes that a model file declares: some take [N, H, W, C]."""
    name = original.inputs[0]
    typed = images.astype(original.input_dtype(name))
    _, channels, height, width = images.shape
    channels_last = tuple(original.input_shape(name))[1:] == (height, width, channels)
    return typed.transpose(0, 2, 3, 1) if channels_last else typed


def run_one_by_one(original: OnnxRuntimeSession, images: NDArray[Any], output: str) -> NDArray[Any]:
    """One output [N, K] of a model file for images [N, C, H, W], each run alone.

    If the file fixes the batch size (MLPerf's and others often do), the whole batch is filled with the same image.
    """
    import numpy as np

    name = original.inputs[0]
    fixed = original.input_shape(name)[0]
    size = fixed if isinstance(fixed, int) else 1
    typed = as_file_takes(original, images)
    rows = [original.run({name: np.repeat(typed[i : i + 1], size, axis=0)})[output] for i in range(len(typed))]
    return np.stack([row.reshape(size, -1)[0] for row in rows])
