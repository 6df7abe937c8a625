"""The most sensitive layers most from int8: each layer is quantized alone, and its error at the network's outputs measured."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10
from typing import TYPE_CHECKING, Any

from cmx4trt.base.progress import Progress
from cmx4trt.ir.model import Model
from cmx4trt.ir.onnx_file import encode_model
from cmx4trt.quantize.placement import place, restricted, shared_scales
from cmx4trt.quantize.qdq import insert_qdq
from cmx4trt.quantize.ranges import Ranges
from cmx4trt.quantize.record import LayerGain
from cmx4trt.quantize.samples import Samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

STAGE = "rank layers"
RANKING_SAMPLES = 2
"""Images for the ranking: it costs one run of the network for each layer and image; a rank needs no more precision."""

AUTO_SHARE = 0.1
"""``keep_fp16=auto`` leaves a layer in float16 if it alone causes more than this part of the error at the outputs …"""
AUTO_MOST = 0.125
"""… but at most this part of the layers: beyond it int8 loses its speed, and the cause is not in single layers."""


def rank_layers(model: Model, ranges: Ranges, samples: Samples, progress: Progress) -> list[LayerGain]:
    """All layers that quantization touches, the worst first.

    ``model`` is the float32 network and is not edited; the first RANKING_SAMPLES of ``samples`` are run.
    """
    images = [samples.read(index) for index in range(min(RANKING_SAMPLES, len(samples)))]
    reference = _outputs(model, images)
    placement = restricted(place(model.graph), shared_scales(place(model.graph), ranges.scales))
    layers = [layer for layer in placement.layers if layer not in placement.kept]
    errors: dict[str, float] = {}
    for done, layer in enumerate(layers, 1):
        alone = quantized_copy(model, ranges, [other for other in placement.layers if other != layer])
        errors[layer] = _relative_error(reference, _outputs(alone, images))
        progress.step(STAGE, done, len(layers))
    total = sum(errors.values()) or 1.0
    return sorted((_gain(layer, error / total) for layer, error in errors.items()), key=lambda g: -g.share)


def choose_automatically(ranking: Sequence[LayerGain]) -> list[str]:
    """The layers that ``keep_fp16=auto`` leaves in float16."""
    most = int(len(ranking) * AUTO_MOST)
    return [gain.layer for gain in ranking[:most] if gain.share > AUTO_SHARE]


def quantized_copy(model: Model, ranges: Ranges, kept: Sequence[str]) -> Model:
    """``model`` with Q/DQ everywhere but at the layers ``kept``."""
    copy = model.copy()
    placement = place(copy.graph, kept)
    scales = shared_scales(placement, ranges.scales)
    insert_qdq(copy, restricted(placement, scales), scales, ranges.means)
    return copy


def _gain(layer: str, share: float) -> LayerGain:
    return LayerGain(layer, share, -10 * log10(max(1 - share, 1e-6)))


def _outputs(model: Model, images: Sequence[NDArray[Any]]) -> list[dict[str, NDArray[Any]]]:
    from cmx4trt.sessions.onnxruntime import OnnxRuntimeSession, fastest_providers

    session = OnnxRuntimeSession.from_graph(encode_model(model), fastest_providers())
    return [session.run({session.inputs[0]: image}) for image in images]


def _relative_error(reference: Sequence[dict[str, NDArray[Any]]], outputs: Sequence[dict[str, NDArray[Any]]]) -> float:
    """Mean over the outputs of |error|^2 / |reference|^2."""
    import numpy as np

    ratios = []
    for name in reference[0]:
        error = sum(
            float(np.square(a[name] - b[name], dtype=np.float64).sum()) for a, b in zip(reference, outputs, strict=True)
        )
        energy = sum(float(np.square(a[name], dtype=np.float64).sum()) for a in reference)
        ratios.append(error / energy if energy else 0.0)
    return sum(ratios) / len(ratios)
