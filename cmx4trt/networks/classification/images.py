"""Images with the statistics that a classifier is fed with, which its file does not name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cmx4trt.graph.precision import FLOATS, cast_tensor
from cmx4trt.images.normalization import InputForm
from cmx4trt.images.seeded import seeded_images
from cmx4trt.ir.model import DType, Graph, Model, Node, ValueInfo
from cmx4trt.ir.onnx_file import encode_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

CROP = 64
"""Rows and columns that are enough to see how much a first layer's output varies."""


def images_as_fed(graph: Model, shape: tuple[int, int, int], count: int, forms: Sequence[InputForm]) -> NDArray[Any]:
    """Seeded images [N, C, H, W] in the one of ``forms`` that a prepared ``graph`` takes.

    Networks are trained so that the first layer's output varies by about 1 (batch normalization, or the initialization, sees to
    that), so it is the form with which it comes closest.
    """
    import numpy as np

    pixels = seeded_images(shape, count)
    choices = [form.normalize(pixels) for form in forms]
    layer = next((node for node in graph.graph.nodes if node.op_type == "Conv"), None)
    if layer is None or len(choices) == 1:
        return choices[0]
    variations = _variations(graph, layer, [images[:1, :, :CROP, :CROP] for images in choices])
    return choices[int(np.argmin([abs(np.log(v)) if 0 < v < np.inf else np.inf for v in variations]))]


def _variations(graph: Model, layer: Node, choices: Sequence[NDArray[Any]]) -> list[float]:
    """The standard deviations of what ``layer`` gives in float32, over positions; roots of the mean square over channels."""
    import numpy as np

    from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession

    constants = {
        name: cast_tensor(tensor, DType.FLOAT, name)
        for name in layer.inputs[1:]
        if (tensor := graph.graph.initializers.get(name)) is not None and tensor.dtype in FLOATS
    }
    node = Node("Conv", ["x", *layer.inputs[1:]], ["y"], layer.attributes)
    infos = [ValueInfo("x", DType.FLOAT, None)], [ValueInfo("y", DType.FLOAT, None)]
    encoded = encode_model(Model(Graph("first_layer", [node], constants, *infos), graph.opsets, graph.ir_version))
    session = OnnxRuntimeSession.from_bytes(encoded.message, constants=encoded.constants, what="the first layer")
    values = (session.run({"x": images})["y"].astype(np.float64) for images in choices)
    return [float(np.sqrt(value.var(axis=(2, 3)).mean())) for value in values]
