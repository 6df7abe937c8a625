"""ONNX Runtime's own static quantizer, on random images."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from cmx4trt.ir.model import Model
from cmx4trt.ir.onnx_file import decode_model, encode_model

IMAGES = 4


class _Images(CalibrationDataReader):  # type: ignore[misc]
    """``draw``: gives a random image of a shape."""

    def __init__(self, name: str, shape: tuple[int, ...], pixels: bool) -> None:
        rng = np.random.default_rng(5)
        draw = rng.random if pixels else rng.standard_normal
        self._feeds = iter([{name: draw(shape, dtype=np.float32)} for _ in range(IMAGES)])

    def get_next(self) -> dict[str, Any] | None:
        """The next image."""
        return next(self._feeds, None)


def quantized(
    model: Model,
    folder: Path,
    integers: bool,
    signed: bool,
    pixels: bool = False,
    operators: list[str] | None = None,
    **options: Any,
) -> Model:
    """``model`` in the QDQ format, or with operators on ``integers`` (QOperator); activations uint8, or int8 where ``signed``.

    ``pixels``: whether images lie in 0..1; ``operators``: the only ones to quantize; ``options``: ``extra_options`` of
    ``quantize_static``.
    """
    source, result, image = folder / "float.onnx", folder / "quantized.onnx", model.graph.inputs[0]
    source.write_bytes(encode_model(model, None).message)
    shape = tuple(size if isinstance(size, int) else 1 for size in image.dims or ())
    logging.disable(logging.WARNING)
    try:
        quantize_static(
            source,
            result,
            _Images(image.name, shape, pixels),
            quant_format=QuantFormat.QOperator if integers else QuantFormat.QDQ,
            op_types_to_quantize=operators,
            per_channel=True,
            activation_type=QuantType.QInt8 if signed else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options=options,
        )
    finally:
        logging.disable(logging.NOTSET)
    return decode_model(result.read_bytes())
