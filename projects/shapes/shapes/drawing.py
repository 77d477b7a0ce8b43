"""Draws grounds, outlines and surfaces.

With numpy alone and in float64, so that rounding to 8 bits gives the same picture on every machine.
Lengths are in pixels of the finished scene; ``rows`` and ``columns`` are coordinates of samples,
(H, W). Colors are RGB, 0 to 255.
"""

from __future__ import annotations

import numpy as np

RandomState = np.random.RandomState
Color = tuple[float, float, float]

_GROUND_COLORS = {
    "grass": (70, 125, 55),
    "water": (55, 125, 165),
    "sand": (212, 188, 132),
    "brick": (160, 84, 66),
    "snow": (228, 233, 240),
    "wood": (132, 94, 60),
}
# Of the parts that show a color.
THING_COLORS = {
    "red": (214.0, 40.0, 44.0),
    "yellow": (244.0, 214.0, 40.0),
    "green": (40.0, 190.0, 80.0),
    "blue": (44.0, 72.0, 222.0),
    "purple": (164.0, 56.0, 196.0),
}
# Of the parts that show a texture or a shape.
_GRAY = (140.0, 140.0, 140.0)
_PALE = (225.0, 220.0, 205.0)
# Stripes, dots and emblems, in pixels.
_STRIPE_PERIOD = 6.5
_DOT_PERIOD = 6.0
_DOT_RADIUS = 1.8
_EMBLEM_PERIOD = 17.0
_EMBLEM_RADIUS = 7.0
_PATTERN_TONE = 0.28
# Of emblems in units of their radius, so that all shapes look equally large.
_CIRCLE_RADIUS = 0.92
_BAR_HALF_HEIGHT = 0.42
_TRIANGLE_INRADIUS = 0.52
_CROSS_ARM = 0.36


def ground(rng: RandomState, kind: str, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Surface of one kind of stuff.

    Args:
        rng: source of randomness.
        kind: one of ``STUFF``.
        rows: coordinates in pixels.
        columns: coordinates in pixels.

    Returns:
        Colors (H, W, 3), roughly 0 to 255.
    """
    grain = rng.standard_normal(rows.shape)
    phase = rng.uniform(0, 2 * np.pi, 3)
    if kind == "grass":
        value = 1 + 0.45 * _smear(grain, 5, axis=0)
    elif kind == "water":
        bend = 1.5 * np.sin(columns / 9 + phase[0])
        value = 1 + 0.22 * np.sin(rows / rng.uniform(1.1, 1.6) + bend + phase[1])
    elif kind == "sand":
        value = 1 + 0.09 * grain
    elif kind == "brick":
        row, column = rows + phase[0], columns + 2 * phase[1]
        course = np.floor(row / 6)
        joint = (row % 6 < 1.2) | ((column + 6 * (course % 2)) % 12 < 1.2)
        value = np.where(joint, 1.45, 1 + 0.05 * grain)
    elif kind == "snow":
        drift = np.sin(rows / 14 + phase[0]) * np.sin(columns / 17 + phase[1])
        value = 1 + 0.05 * drift + 0.015 * grain
    else:
        fiber = columns + 2.5 * np.sin(rows / 15 + phase[0])
        value = 1 + 0.16 * np.sin(1.9 * fiber + phase[1]) + 0.1 * np.sin(0.7 * fiber + phase[2])
    tint = rng.uniform(0.9, 1.1, 3)
    return np.asarray(_GROUND_COLORS[kind]) * tint * value[..., None]


def outline(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Finds the samples inside a shape of radius 1 about the origin, bool.

    Args:
        shape: one of ``SHAPES``.
        x: coordinates to the right, in radii.
        y: coordinates downwards, in radii.
    """
    if shape == "circle":
        return x * x + y * y <= _CIRCLE_RADIUS**2
    if shape == "bar":
        return (np.abs(x) <= 1.0) & (np.abs(y) <= _BAR_HALF_HEIGHT)
    if shape == "triangle":
        slope = 0.5 * np.sqrt(3)
        sides = np.maximum.reduce([y, slope * x - 0.5 * y, -slope * x - 0.5 * y])
        return sides <= _TRIANGLE_INRADIUS
    low = np.minimum(np.abs(x), np.abs(y))
    return (np.maximum(np.abs(x), np.abs(y)) <= 1.0) & (low <= _CROSS_ARM)


def color_part(color: Color, u: np.ndarray) -> np.ndarray:
    """Plain surface, colors (N, 3) of samples (N,)."""
    return np.tile(color, (len(u), 1))


def texture_part(rng: RandomState, texture: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Gray surface in a texture.

    Args:
        rng: source of randomness.
        texture: one of ``TEXTURES``.
        u: coordinates across the texture in pixels, (N,).
        v: coordinates along it, likewise.

    Returns:
        Colors (N, 3).
    """
    shift = rng.uniform(0, _STRIPE_PERIOD, 2)
    u, v = u + shift[0], v + shift[1]
    if texture == "striped":
        pattern = u % _STRIPE_PERIOD < 0.45 * _STRIPE_PERIOD
    elif texture == "dotted":
        half = _DOT_PERIOD / 2
        pattern = (u % _DOT_PERIOD - half) ** 2 + (v % _DOT_PERIOD - half) ** 2 < _DOT_RADIUS**2
    else:
        pattern = np.zeros(u.shape, bool)
    return np.outer(np.where(pattern, _PATTERN_TONE, 1.0), _GRAY)


def shape_part(rng: RandomState, shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Pale surface with dark emblems of a shape in rows; arguments as of :func:`texture_part`."""
    shift = rng.uniform(0, _EMBLEM_PERIOD, 2)
    x, y = (
        ((axis + offset) % _EMBLEM_PERIOD - _EMBLEM_PERIOD / 2) / _EMBLEM_RADIUS
        for axis, offset in zip((u, v), shift)
    )
    return np.outer(np.where(outline(shape, x, y), _PATTERN_TONE, 1.0), _PALE)


def blur(image: np.ndarray, passes: int) -> np.ndarray:
    """Blurs by the binomial filter 1 2 1, ``passes`` times in both directions; (H, W, C)."""
    for _ in range(passes):
        for axis in (0, 1):
            padded = np.concatenate(
                [image.take([0], axis), image, image.take([-1], axis)], axis=axis
            )
            length = image.shape[axis]
            before, after = (padded.take(range(k, k + length), axis) for k in (0, 2))
            image = 0.25 * before + 0.5 * image + 0.25 * after
    return image


def _smear(noise: np.ndarray, length: int, axis: int) -> np.ndarray:
    """Mean of ``length`` neighbors along an axis, scaled back to unit variance."""
    shifted = [np.roll(noise, step, axis) for step in range(length)]
    return np.sum(shifted, axis=0) / np.sqrt(length)
