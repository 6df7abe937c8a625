"""A detector's file that is quantized already: what of its scales belongs to the network between image and heads.

Each level keeps its own: activations differ from level to level anyway, and constants that a quantizer rounded in another
way for each level stay apart (docs/decisions/023-quantized-files.md).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from cmx4trt.graph.own_quantization import OwnQuantization
from cmx4trt.graph.spec import ModelSpec
from cmx4trt.ir.model import Graph
from cmx4trt.networks.base import wrong_model
from cmx4trt.networks.retinanet import topology
from cmx4trt.networks.retinanet.details import detector_spec

OTHER_WEIGHTS = 1 / 8
"""Weights of two levels that differ by more, relative to their norm, are no roundings of the same: int8's steps with one scale
for all channels make a few hundredths, other weights more than 1."""


def own_of_body(own: OwnQuantization, body: Graph) -> OwnQuantization:
    """``own`` without the activations that are not in ``body``."""
    names = body.names()
    return replace(own, scales={name: scale for name, scale in own.scales.items() if name in names})


def count_behind(own: OwnQuantization | None, behind: Collection[str]) -> int:
    """How many of the activations ``behind`` the file quantizes."""
    return sum(name in behind for name in own.scales) if own else 0


def check_alike(body: Graph, places: Mapping[str, str], spec: ModelSpec) -> None:
    """Refuse heads whose weights are not alike on all levels. ``places``: layer -> value. Raises ModelError."""
    import numpy as np

    producers = body.producers()
    for layer in topology.layers(detector_spec(spec)):
        if not layer.shares:
            continue
        own, first = (body.initializers[producers[places[name]].inputs[1]] for name in (layer.name, layer.shares))
        if own is first:
            continue
        exact = first.numpy()
        if np.linalg.norm(own.numpy() - exact) > OTHER_WEIGHTS * np.linalg.norm(exact):
            raise wrong_model(spec, f"{layer.words()} with weights of its own", "those of the first level, quantized")
