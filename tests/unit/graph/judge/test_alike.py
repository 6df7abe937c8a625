"""Layers that are the file's own need no comparison; any difference that could matter makes them be compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from cmx4trt.graph.judge import judge_layers, layers
from cmx4trt.graph.judge.alike import computed_alike
from cmx4trt.graph.precision import DTYPES, cast_floats
from cmx4trt.ir.model import Node
from tests.unit.conftest import RESIDUAL, RESIDUAL_SHAPES

PAIRS = {"x": "image", "y": "result", "x_nchw": "image"}


def conv(inputs: Sequence[str] = ("x", "w"), **attributes: Any) -> Node:
    return Node("Conv", list(inputs), ["y"], attributes, "c")


THEIRS = Node("Conv", ["image", "weight"], ["result"], {"strides": [2, 2], "kernel_shape": [3, 3]}, "c")


def alike(own: Node, theirs: Node = THEIRS, same: bool = True) -> bool:
    return computed_alike(own, theirs, PAIRS, {"w"}, same, {"image_rounded": "image"})


def test_defaults_may_be_written_out_and_repeated_sizes_left_out() -> None:
    assert alike(conv(strides=[2, 2]))
    assert alike(conv(strides=[2, 2], group=1, pads=[0, 0, 0, 0], dilations=[1, 1], auto_pad="NOTSET"))
    rounded = Node("Conv", ["image_rounded", "weight"], ["result"], {"strides": [2, 2]}, "c")
    assert alike(conv(strides=[2, 2]), rounded)


DIFFERENCES: dict[str, Callable[[], bool]] = {
    "stride": lambda: alike(conv(strides=[1, 1])),
    "padding": lambda: alike(conv(strides=[2, 2], pads=[0, 0, 1, 1])),
    "groups": lambda: alike(conv(strides=[2, 2], group=2)),
    "weights": lambda: alike(conv(strides=[2, 2]), same=False),
    "what it reads": lambda: alike(conv(["y", "w"], strides=[2, 2])),
    "a value without counterpart": lambda: alike(conv(["z", "w"], strides=[2, 2])),
    "other order of axes": lambda: alike(conv(["x_nchw", "w"], strides=[2, 2])),
    "one input more": lambda: alike(conv(["x", "w", "w"], strides=[2, 2])),
    "no bias given": lambda: alike(conv(["x", "w", ""], strides=[2, 2])),
    "another operator": lambda: alike(Node("ConvTranspose", ["x", "w"], ["y"], {"strides": [2, 2]}, "c")),
    "another domain": lambda: alike(Node("Conv", ["x", "w"], ["y"], {"strides": [2, 2]}, "c", "com.microsoft")),
}


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_a_difference_makes_layers_be_compared(difference: str) -> None:
    assert not DIFFERENCES[difference]()


def test_only_layers_that_differ_are_computed(text_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a network in float16 that is otherwise the file's: what moves elements only, which takes nothing."""
    computed: list[str] = []
    usual = layers.write_fragment

    def observed(body: Any, nodes: Any, fed: Any, judged: Any, *more: Any) -> Any:
        computed.extend(judged)
        return usual(body, nodes, fed, judged, *more)

    monkeypatch.setattr(layers, "write_fragment", observed)
    model = text_model(RESIDUAL, shapes=RESIDUAL_SHAPES, seed=0)
    graph = model.copy()
    cast_floats(graph, DTYPES["fp16"])
    images = np.random.default_rng(1).standard_normal((1, 3, 8, 8), dtype=np.float32)
    found = judge_layers(graph, model.copy(), {"y": "y"}, images)
    assert (found.passed, found.judged, found.excess <= 1) == (True, 14, True)
    assert computed == ["f"]
