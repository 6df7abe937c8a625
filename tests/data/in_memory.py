"""A model that is no file, as the source of a build."""

from __future__ import annotations

from cmx4trt.ir.model import Model
from cmx4trt.ir.onnx_file import EncodedGraph, encode_model, with_output


class InMemory:
    """What ``prepare`` and ``verify`` ask of a source."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def start_reading(self) -> None:
        """Nothing to read."""

    def model(self) -> Model:
        return self._model.copy()

    def message(self, output: str) -> EncodedGraph:
        return EncodedGraph(with_output(encode_model(self._model, None).message, output), {})
