"""Images of several textured shapes, with the shapes' boxes: a procedural detection task, drawn from a seed on any device.

An image holds one to four of the shapes of textures.py, each in a cell of its own of a grid of 3 x 3, on a gradient, with noise.
A class is a shape (up to 5 classes), or a shape and its pattern (up to 25). As in textures.py, every machine draws the same
held-out images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import textures
from textures import Scenes

Array = np.ndarray[Any, Any]

MOST = 4
"""Objects in an image."""
CELLS = 3
"""Per side of the grid."""
SMALLEST, LARGEST = 0.07, 0.16
"""Radius over the image's side; a triangle reaches 1.2 times as far, so neighbours hardly overlap."""
JITTER = 0.05
"""Largest distance of an object's center from its cell's, over the image's side."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """B images: the scene of each object, drawn one above the other, and ``boxes`` [B, MOST, 4] float32 (x1, y1, x2, y2, 0 .. 1),
    ``labels`` [B, MOST] int64; ``counts`` [B] says how many objects of an image there are."""

    layers: tuple[Scenes, ...]
    boxes: Array
    labels: Array
    counts: Array


def draw_pictures(rng: np.random.Generator, count: int, classes: int) -> Pictures:
    """Parameters of ``count`` images."""
    cells = rng.permuted(np.tile(np.arange(CELLS**2), (count, 1)), axis=1)[:, :MOST]
    counts = rng.integers(1, MOST + 1, count)
    layers = []
    for place in range(MOST):
        centers = (np.stack([cells[:, place] % CELLS, cells[:, place] // CELLS]) + 0.5) / CELLS - 0.5
        x, y = (centers + rng.uniform(-JITTER, JITTER, centers.shape)).astype(np.float32)
        radius = np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST), count)).astype(np.float32)
        drawn = (place < counts).astype(np.float32)
        layers.append(replace(textures.draw_scenes(rng, count), x=x, y=y, radius=radius * drawn))
    labels = np.stack([layer.label % classes for layer in layers], axis=1)
    return Pictures(tuple(layers), np.stack([_boxes(layer) for layer in layers], axis=1), labels, counts)


def render(xp: Any, layers: tuple[Scenes, ...], noise: Any) -> Any:
    """Images [B, 3, S, S] with values 0..255 (float); ``noise`` is standard normal, of the same shape."""
    flat = [layer.mapped(lambda a: a[:, None, None] if a.ndim == 1 else a[:, :, None, None]) for layer in layers]
    u, v = textures.axes(xp, noise)
    image = textures.background(xp, flat[0], u, v)
    for layer in flat:
        mask, colors = textures.shape(xp, layer, u, v)
        image = image + (colors - image) * (mask * (layer.radius > 0))[:, None]
    return xp.clip(image + noise * (textures.NOISE * flat[0].noise[:, None]), 0, 255)


def held_out(
    seed: int, start: int, count: int, size: int, classes: int, noise_factor: float = 1.0
) -> tuple[Array, list[tuple[Array, Array]]]:
    """Images ``start .. start+count-1`` of the series ``seed``: uint8 [count, 3, size, size]; and of each the boxes [n, 4] in
    pixels and labels [n] of what is in it."""
    images, truth = [], []
    for index in range(start, start + count):
        rng = np.random.default_rng((seed, index))
        pictures = draw_pictures(rng, 1, classes)
        noise = rng.standard_normal((1, 3, size, size), dtype=np.float32) * np.float32(noise_factor)
        images.append(np.rint(render(np, pictures.layers, noise)).astype(np.uint8)[0])
        present = slice(int(pictures.counts[0]))
        truth.append((pictures.boxes[0, present] * size, pictures.labels[0, present]))
    return np.stack(images), truth


def _boxes(scene: Scenes) -> Array:
    """The smallest upright boxes [B, 4] around the shapes, cut at the image's border; shapes as in textures.py."""
    corners = _corners(scene.shape) * scene.radius[:, None, None]
    cos, sin = np.cos(scene.tilt)[:, None], np.sin(scene.tilt)[:, None]
    a, b = corners[..., 0], corners[..., 1]
    x, y = a * cos - b * sin, a * sin + b * cos
    round_ = np.isin(scene.shape, (0, 4))[:, None]
    reach = scene.radius[:, None]
    x, y = (np.where(round_, np.resize([-1, 1], x.shape[1]) * reach, value) for value in (x, y))
    center = np.stack([scene.x, scene.y] * 2, axis=1) + 0.5
    found = center + np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], axis=1)
    boxes: Array = np.clip(found, 0, 1).astype(np.float32)
    return boxes


def _corners(shape: Array) -> Array:
    """The corners [B, 8, 2] of each shape at radius 1 before it is rotated; of round ones, anything."""
    square = [(0.85 * i, 0.85 * j) for i in (-1, 1) for j in (-1, 1)] * 2
    triangle = [(0.9 / 0.866, -0.6), (-0.9 / 0.866, -0.6), (0, 1.2), (0, 1.2)] * 2
    cross = [(i, 0.35 * j) for i in (-1, 1) for j in (-1, 1)] + [(0.35 * i, j) for i in (-1, 1) for j in (-1, 1)]
    return np.array([square, square, triangle, cross, square], np.float64)[shape]
