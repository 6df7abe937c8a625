"""The made-up images that detectors are trained and measured on: their boxes are those of what is drawn."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SIZE = 128


@pytest.fixture(scope="module")
def objects() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        return import_module("textured_objects")


@pytest.mark.parametrize("kind", range(5), ids=["disc", "square", "triangle", "cross", "ring"])
def test_boxes_enclose_exactly_what_is_drawn(objects: Any, kind: int) -> None:
    pictures = objects.draw_pictures(np.random.default_rng(kind), 8, 5)
    scene = replace(pictures.layers[0], shape=np.full(8, kind))
    one = scene.mapped(lambda a: a[:, None, None] if a.ndim == 1 else a[:, :, None, None])
    u, v = objects.textures.axes(np, np.zeros((8, 3, SIZE, SIZE), np.float32))
    masks, _ = objects.textures.shape(np, one, u, v)
    for mask, box in zip(masks > 0.5, objects._boxes(scene) * SIZE, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        drawn = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        assert np.abs(drawn - box).max() <= 2  # pixels: thin corners cover none whole


def test_held_out_images_do_not_depend_on_how_many_are_drawn(objects: Any) -> None:
    images, truth = objects.held_out(5, 0, 4, 64, 25)
    later, other = objects.held_out(5, 2, 2, 64, 25)
    assert np.array_equal(images[2:], later)
    for (boxes, labels), (same, again) in zip(truth[2:], other, strict=True):
        assert np.array_equal(boxes, same)
        assert np.array_equal(labels, again)
        assert 1 <= len(labels) <= objects.MOST
        assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_no_object_is_drawn_beyond_the_count(objects: Any) -> None:
    pictures = objects.draw_pictures(np.random.default_rng(1), 16, 5)
    for place, layer in enumerate(pictures.layers):
        assert ((layer.radius > 0) == (place < pictures.counts)).all()
