"""What files take their images by."""

from __future__ import annotations

from typing import Any

import pytest

from cmx4trt.errors import ModelError
from cmx4trt.ir.model import DType, Graph, ValueInfo
from cmx4trt.networks.retinanet.image_inputs import image_input, stack_inputs


@pytest.mark.parametrize(
    ("dims", "dtype", "found"),
    [
        ((1, 128, 128, 3), DType.FLOAT, r"input 'x' \[1, 128, 128, 3\] of float"),
        ((0, 3, 128, 128), DType.FLOAT, r"\[0, 3, 128, 128\]"),
        ((1, 3, 128, 128), DType.UINT8, "of uint8"),
        ((1, 3, 800, 800), DType.FLOAT, r"\[1, 3, 800, 800\]"),
    ],
)
def test_refuses_other_inputs(toy_detector: Any, dims: tuple[int, ...], dtype: DType, found: str) -> None:
    graph = Graph("", [], {}, [ValueInfo("x", dtype, dims)], [])
    with pytest.raises(ModelError, match=found):
        image_input(graph, toy_detector.spec)


@pytest.mark.parametrize("dims", [None, ("n", 3, "h", "w"), (1, 3, 128, 128), (None, 3, 128, None)])
def test_accepts_free_dimensions(toy_detector: Any, dims: tuple[int | str | None, ...] | None) -> None:
    graph = Graph("", [], {}, [ValueInfo("x", DType.FLOAT, dims)], [])
    assert image_input(graph, toy_detector.spec) == ("x", 1)


def test_a_batch_of_several_is_told(toy_detector: Any) -> None:
    graph = Graph("", [], {}, [ValueInfo("x", DType.FLOAT, (4, 3, 128, 128))], [])
    assert image_input(graph, toy_detector.spec) == ("x", 4)


def test_refuses_two_inputs(toy_detector: Any) -> None:
    inputs = [ValueInfo(name, DType.FLOAT, (1, 3, 128, 128)) for name in "xy"]
    with pytest.raises(ModelError, match="found 2 inputs"):
        image_input(Graph("", [], {}, inputs, []), toy_detector.spec)


def test_images_of_another_size_are_not_stacked(toy_detector: Any) -> None:
    graph = Graph("", [], {}, [ValueInfo("x", DType.FLOAT, (3, 800, 800))], [])
    assert stack_inputs(graph, toy_detector.spec) == 0
    with pytest.raises(
        ModelError, match=r"found input 'x' \[3, 800, 800\] of float, need images \[N, 3, 128, 128\] of float32"
    ):
        image_input(graph, toy_detector.spec)


def test_images_whose_sizes_are_free_are_stacked(toy_detector: Any) -> None:
    infos = [ValueInfo(name, DType.FLOAT, (3, "height", "width")) for name in "xy"]
    graph = Graph("", [], {}, infos, [])
    assert stack_inputs(graph, toy_detector.spec) == 2
    assert image_input(graph, toy_detector.spec) == ("images", 2)
