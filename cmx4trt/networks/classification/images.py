"""Images with the statistics that a classifier is fed with, which its file does not name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cmx4trt.graph.constants import submodel
from cmx4trt.images.normalization import InputForm
from cmx4trt.images.seeded import seeded_images
from cmx4trt.ir.model import Graph, Model, Node, ValueInfo
from cmx4trt.ir.onnx_file import encode_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

CROP = 64
"""Rows and columns that are enough to see how much a first layer's output varies."""


def images_as_fed(model: Model, shape: tuple[int, int, int], count: int, forms: Sequence[InputForm]) -> NDArray[Any]:
    """Seeded images [N, C, H, W] in the one of ``forms`` that the network of ``model`` takes.

    Networks are trained so that the first layer's output varies by about 1 (batch normalisation, or the initialisation, sees to
    that), so the form counts with which it does best. ``model`` is a file's graph and is not touched.
    """
    import numpy as np

    pixels = seeded_images(shape, count)
    choices = [form.normalize(pixels) for form in forms]
    layer = _first_layer(model.graph)
    if layer is None or len(choices) == 1:
        return choices[0]
    variations = _variations(model, layer, [images[:1, :, :CROP, :CROP] for images in choices])
    return choices[int(np.argmin([abs(np.log(v)) if 0 < v < np.inf else np.inf for v in variations]))]


def _first_layer(graph: Graph) -> Node | None:
    """The only reader of the input where that is a convolution, or the batch normalisation behind it."""
    readers = graph.consumers()
    first = readers.get(graph.inputs[0].name, [])
    if len(first) != 1 or first[0].op_type != "Conv":
        return None
    behind = readers.get(first[0].outputs[0], [])
    return behind[0] if len(behind) == 1 and behind[0].op_type == "BatchNormalization" else first[0]


def _variations(model: Model, layer: Node, choices: Sequence[NDArray[Any]]) -> list[float]:
    """The standard deviations of what ``layer`` gives, over positions; roots of the mean square over channels."""
    import numpy as np

    from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

    source, result = model.graph.inputs[0], layer.outputs[0]
    part = submodel(model, [ValueInfo(source.name, source.dtype, None)], [ValueInfo(result, source.dtype, None)])
    encoded = encode_model(part)
    session = OnnxRuntimeSession.from_bytes(encoded.message, constants=encoded.constants, what="the first layer")
    dtype = session.input_dtype(source.name)
    values = (session.run({source.name: images.astype(dtype)})[result].astype(np.float64) for images in choices)
    return [float(np.sqrt(value.var(axis=(2, 3)).mean())) for value in values]
