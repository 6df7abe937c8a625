"""A procedural image classification task: 100 classes of textured shapes, drawn on any device from a seed.

It replaces a labeled data set where none can be downloaded: a network must learn it from pixels, and the accuracy of an
INT8 network measured on it is meaningful. A class is (shape, pattern, frequency); position, size, rotation, colors,
contrast, background, an overlapping distractor and noise are nuisances. The same code draws with numpy or with torch
(``xp``), so a GPU can draw its training images on the fly, and every machine draws the same held-out images.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

SHAPES = 5  # disc, square, triangle, cross, ring
PATTERNS = 5  # stripes, checks, dots, rings, waves
FREQUENCIES = 4
CLASSES = SHAPES * PATTERNS * FREQUENCIES
SIZE = 224

MLPERF_MEANS = (123.68, 116.78, 103.94)
"""Subtracted from red, green, blue in 0..255: MLPerf Inference's preprocessing for ResNet-50 (classification_and_detection)."""

LOWEST_FREQUENCY = 9.0
"""Periods per image of the first frequency class."""
FREQUENCY_STEP = 1.4
"""Ratio of neighboring frequency classes; with ``FREQUENCY_JITTER`` they are close, but distinct."""
FREQUENCY_JITTER = 0.1
NOISE = 40.0
"""Standard deviation of the pixel noise, in steps of 1/255, for the noisiest images."""


@dataclass(frozen=True, slots=True)
class Scenes:
    """The drawing parameters of B images, each [B] or [B, 3]."""

    label: Any
    shape: Any
    pattern: Any
    frequency: Any
    angle: Any
    tilt: Any
    x: Any
    y: Any
    radius: Any
    phase: Any
    contrast: Any
    noise: Any
    light: Any
    dark: Any
    near: Any
    far: Any
    distractor_x: Any
    distractor_y: Any
    distractor_radius: Any
    distractor_color: Any

    def mapped(self, function: Any) -> Scenes:
        """The scenes with ``function`` applied to every array."""
        return Scenes(*(function(getattr(self, f.name)) for f in fields(self)))


def draw_scenes(rng: np.random.Generator, count: int) -> Scenes:
    """Parameters of ``count`` images with uniformly distributed labels."""

    def uniform(low: float, high: float, *shape: int) -> np.ndarray[Any, Any]:
        return rng.uniform(low, high, (count, *shape)).astype(np.float32)

    label = rng.integers(0, CLASSES, count)
    bucket = label // (SHAPES * PATTERNS)
    jitter = 1 + uniform(-FREQUENCY_JITTER, FREQUENCY_JITTER)
    frequency = (LOWEST_FREQUENCY * FREQUENCY_STEP**bucket).astype(np.float32) * jitter
    return Scenes(
        label=label,
        shape=label % SHAPES,
        pattern=label // SHAPES % PATTERNS,
        frequency=frequency,
        angle=uniform(0, 2 * np.pi),
        tilt=uniform(0, 2 * np.pi),
        x=uniform(-0.2, 0.2),
        y=uniform(-0.2, 0.2),
        radius=uniform(0.16, 0.36),
        phase=uniform(0, 2 * np.pi),
        contrast=np.exp(uniform(float(np.log(0.2)), 0)),
        noise=uniform(0.1, 1.0),
        light=uniform(110, 255, 3),
        dark=uniform(0, 110, 3),
        near=uniform(20, 235, 3),
        far=uniform(20, 235, 3),
        distractor_x=uniform(-0.5, 0.5),
        distractor_y=uniform(-0.5, 0.5),
        distractor_radius=uniform(0.03, 0.1),
        distractor_color=uniform(0, 255, 3),
    )


def render(xp: Any, scenes: Scenes, noise: Any) -> Any:
    """Images [B, 3, S, S] with values 0..255 (float); ``noise`` is standard normal, of the same shape.

    ``xp`` is numpy or torch; the arrays of ``scenes`` and ``noise`` are its arrays, on any device.
    """
    one = scenes.mapped(lambda a: a[:, None, None] if a.ndim == 1 else a[:, :, None, None])
    u, v = axes(xp, noise)
    mask, inside = shape(xp, one, u, v)
    image = background(xp, one, u, v)
    image = image + (inside - image) * mask[:, None]
    ex, ey = u - one.distractor_x, v - one.distractor_y
    spot = _step(xp, one.distractor_radius - xp.sqrt(ex * ex + ey * ey))[:, None]
    image = image + (one.distractor_color - image) * spot
    return xp.clip(image + noise * (NOISE * one.noise[:, None]), 0, 255)


def axes(xp: Any, noise: Any) -> tuple[Any, Any]:
    """Coordinates of the pixels' centers, [1, 1, S] and [1, S, 1], -0.5 .. 0.5; ``noise`` [B, 3, S, S] says on which device."""
    axis = (noise[0, 0, 0] * 0 + xp.cumsum(noise[0, 0, 0] * 0 + 1, 0) - 0.5) / noise.shape[-1] - 0.5
    return axis[None, None, :], axis[None, :, None]


def background(xp: Any, one: Scenes, u: Any, v: Any) -> Any:
    """A gradient between two colors [B, 3, S, S]; ``one``: scenes whose arrays broadcast over images."""
    slope = (u * xp.sin(one.tilt) + v * xp.cos(one.tilt) + 0.7)[:, None] / 1.4
    return one.near + (one.far - one.near) * slope


def shape(xp: Any, one: Scenes, u: Any, v: Any) -> tuple[Any, Any]:
    """Where each image's shape is, [B, S, S] from 0 to 1, and its textured colors [B, 3, S, S]."""
    du, dv = u - one.x, v - one.y
    mask = _mask(xp, one, du * xp.cos(one.tilt) + dv * xp.sin(one.tilt), dv * xp.cos(one.tilt) - du * xp.sin(one.tilt))
    along = u * xp.cos(one.angle) + v * xp.sin(one.angle)
    across = v * xp.cos(one.angle) - u * xp.sin(one.angle)
    wave = (0.5 + 0.5 * one.contrast * _pattern(xp, one, along, across, xp.sqrt(du * du + dv * dv)))[:, None]
    return mask, one.dark + (one.light - one.dark) * wave


def _step(xp: Any, distance: Any) -> Any:
    """0 outside, 1 inside, with a transition of about one pixel."""
    return xp.clip(distance * SIZE + 0.5, 0, 1)


def _mask(xp: Any, one: Scenes, a: Any, b: Any) -> Any:
    """The shape of each image: 1 inside, 0 outside; ``a`` and ``b`` are coordinates rotated about its center."""
    r, distance = one.radius, xp.sqrt(a * a + b * b)
    box = xp.maximum(xp.abs(a), xp.abs(b))
    slim = xp.minimum(xp.abs(a), xp.abs(b))
    triangle = xp.minimum(b + 0.6 * r, 0.6 * r - 0.5 * b - 0.866 * xp.abs(a))
    candidates = (
        r - distance,
        0.85 * r - box,
        triangle,
        xp.minimum(r - box, 0.35 * r - slim),
        xp.minimum(r - distance, distance - 0.45 * r),
    )
    return _step(xp, _choose(xp, one.shape, candidates))


def _pattern(xp: Any, one: Scenes, along: Any, across: Any, radial: Any) -> Any:
    """The texture of each image, -1..1."""
    turn = 2 * np.pi * one.frequency
    first = xp.sin(turn * along + one.phase)
    second = xp.sin(turn * across + 2 * one.phase)
    candidates = (
        first,
        xp.clip(8 * first * second, -1, 1),
        xp.clip(4 * (first + second - 0.9), -1, 1),
        xp.sin(turn * radial + one.phase),
        xp.sin(turn * along + 2.5 * xp.sin(0.5 * turn * across)),
    )
    return _choose(xp, one.pattern, candidates)


def _choose(xp: Any, index: Any, candidates: tuple[Any, ...]) -> Any:
    chosen = candidates[0]
    for number, candidate in enumerate(candidates[1:], 1):
        chosen = xp.where(index == number, candidate, chosen)
    return chosen


def held_out(
    seed: int, start: int, count: int, noise_factor: float = 1.0
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Images ``start .. start+count-1`` of the series ``seed``: uint8 [count, 3, SIZE, SIZE] and labels [count].

    A ``noise_factor`` above 1 makes them harder than anything a network was trained on.
    """
    images, labels = [], []
    for index in range(start, start + count):
        rng = np.random.default_rng((seed, index))
        scenes = draw_scenes(rng, 1)
        noise = rng.standard_normal((1, 3, SIZE, SIZE), dtype=np.float32)
        images.append(np.rint(render(np, scenes, noise * np.float32(noise_factor))).astype(np.uint8)[0])
        labels.append(scenes.label[0])
    return np.stack(images), np.array(labels)


def preprocess(images: np.ndarray[Any, Any], std: float = 1.0) -> np.ndarray[Any, Any]:
    """uint8 RGB [B, 3, H, W] -> float32 with MLPerf's means subtracted, divided by ``std``."""
    return (images.astype(np.float32) - np.array(MLPERF_MEANS, np.float32)[:, None, None]) / np.float32(std)
