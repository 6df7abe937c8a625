"""RetinaNet between its normalized image and its heads, operator by operator.

Sources: torchvision/models/detection/retinanet.py and ops/feature_pyramid_network.py (FeaturePyramidNetwork, LastLevelP6P7 on
P5) for the edges; ``spec.Body`` for the sizes.
"""

from __future__ import annotations

from collections.abc import Iterator

from cmx4trt.networks.recognition import IMAGE, Layer, Window
from cmx4trt.networks.retinanet.details import head_names
from cmx4trt.networks.retinanet.spec import EXPANSION, DetectorSpec


def layers(detector: DetectorSpec, shared: bool = True) -> list[Layer]:
    """All layers; the graph's outputs are called as ``head_names`` says. ``shared``: whether a head's constants are the same on
    all levels."""
    body = detector.body
    window = Window(7, 2, 3, body.stem)
    found = [*_activated("conv1", IMAGE, window, "the first convolution")]
    found.append(Layer("pool1", "MaxPool", (found[-1].name,), "the max pool", Window(3, 2)))
    stages: list[tuple[str, int]] = []
    channels, number = body.stem, 0
    for stage, blocks in enumerate(body.blocks):
        width = body.width << stage
        for block in range(blocks):
            number += 1
            stride = 2 if stage and not block else 1
            grouped = Window(3, stride, width, width, body.groups)
            name = f"res{stage + 2}{chr(ord('a') + block)}"
            found += _block(name, found[-1].name, channels, grouped, f"block {number}")
            channels = width * EXPANSION
        stages.append((found[-1].name, channels))
    found += _pyramid(stages[1:], body.pyramid)
    for head, outputs in zip(head_names(detector.levels), (detector.classes, 4), strict=True):
        for level, name in enumerate(head):
            first = head[0] if shared and level else ""
            found += _head(name, first, level, detector, outputs * detector.anchors_per_location)
    return found


def _block(name: str, source: str, channels: int, grouped: Window, place: str) -> Iterator[Layer]:
    width, outputs, shortcut = grouped.inputs, grouped.inputs * EXPANSION, source
    if channels != outputs or grouped.stride != 1:
        shortcut = f"{name}_branch1"
        window = Window(1, grouped.stride, channels, outputs)
        yield Layer(shortcut, "Conv", (source,), f"the shortcut's convolution of {place}", window)
    yield from _activated(
        f"{name}_branch2a", source, Window(1, 1, channels, width), f"the first 1x1 convolution of {place}"
    )
    yield from _activated(f"{name}_branch2b", f"{name}_branch2a_relu", grouped, f"the 3x3 convolution of {place}")
    expand = f"{name}_branch2c"
    last = f"the last 1x1 convolution of {place}"
    yield Layer(expand, "Conv", (f"{name}_branch2b_relu",), last, Window(1, 1, width, outputs))
    yield Layer(name, "Add", (expand, shortcut), f"the addition of {place}")
    yield Layer(f"{name}_relu", "Relu", (name,), f"the ReLU of {place}")


def _pyramid(stages: list[tuple[str, int]], channels: int) -> Iterator[Layer]:
    """p3 … p7 of C3 … C5."""
    merged = ""
    for number in (5, 4, 3):
        stage, width = stages[number - 3]
        lateral = f"lateral{number}"
        place = f"the pyramid's 1x1 convolution of level {number}"
        yield Layer(lateral, "Conv", (stage,), place, Window(1, 1, width, channels))
        if merged:
            larger = f"{merged}_enlarged"
            yield Layer(larger, "Resize", (merged,), f"the upsampling of level {number + 1}")
            merged = f"merged{number}"
            yield Layer(merged, "Add", (lateral, larger), f"the pyramid's addition of level {number}")
        else:
            merged = lateral
        place = f"the pyramid's 3x3 convolution of level {number}"
        yield Layer(f"p{number}", "Conv", (merged,), place, Window(3, 1, channels, channels))
    smaller = Window(3, 2, channels, channels)
    yield Layer("p6", "Conv", ("p5",), "the convolution that makes level 6", smaller, ("cls_3", "box_3"))
    yield Layer("p6_relu", "Relu", ("p6",), "the ReLU before level 7", toward=("cls_4", "box_4"))
    yield Layer("p7", "Conv", ("p6_relu",), "the convolution that makes level 7", smaller)


def _head(name: str, first: str, level: int, detector: DetectorSpec, outputs: int) -> Iterator[Layer]:
    """The convolutions of a head on one level, whose weights are those of the level called ``first``, where there is one."""
    kind = "class head" if name.startswith("cls") else "box head"
    value, channels = f"p{level + 3}", detector.body.pyramid
    where = f"the {kind} on level {level + 3}"
    for step in range(detector.body.tower + 1):
        last = step == detector.body.tower
        layer = name if last else f"{name}_{step}"
        shared = (first if last else f"{first}_{step}") if first else ""
        window = Window(3, 1, channels, outputs if last else channels)
        place = f"convolution {step + 1} of {where}"
        yield Layer(layer, "Conv", (value,), place, window, (name,), shared)
        value = f"{layer}_relu"
        if not last:
            yield Layer(value, "Relu", (layer,), f"the ReLU after {place}")


def _activated(name: str, source: str, window: Window, place: str) -> Iterator[Layer]:
    yield Layer(name, "Conv", (source,), place, window)
    yield Layer(f"{name}_relu", "Relu", (name,), f"the ReLU after {place}")
