"""Composes scenes: two or three kinds of ground, and things that overlap, lit and photographed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .drawing import RandomState, blur, ground, outline, surface
from .world import CLASSES, STUFF, THINGS, Thing

SIZE = 128
# Samples per pixel along each axis.
_SUPERSAMPLING = 2
_RADIUS = (9.5, 17.0)
_MAX_TURN = np.pi / 12
# Relative to the thing's radius: how far its shadow falls.
_SHADOW = 0.22


@dataclass(frozen=True)
class Scene:
    """One scene.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        labels: uint8 (H, W), index into ``CLASSES``.
        instances: uint8 (H, W), 0 on stuff, i + 1 on ``things[i]``; later things lie on top.
        things: the things, some of which others may cover.
        visible: share of each thing that nothing covers, 0 to 1.
        grounds: kinds of stuff in the scene.
    """

    image: np.ndarray
    labels: np.ndarray
    instances: np.ndarray
    things: tuple[Thing, ...]
    visible: tuple[float, ...]
    grounds: tuple[str, ...]

    @property
    def caption(self) -> str:
        """A caption as a person might write it: the visible things, then the ground."""
        *others, last = [
            f"a {thing.name}" for thing, share in zip(self.things, self.visible) if share > 0
        ]
        things = f"{', '.join(others)} and {last}" if others else last
        return f"{things} on {' and '.join(self.grounds)}"


def draw_scene(
    seed: Sequence[int],
    *,
    things: Sequence[Thing] = THINGS,
    num_things: tuple[int, int] = (2, 5),
    size: int = SIZE,
) -> Scene:
    """Draws a scene; the same for the same arguments, on every machine.

    Args:
        seed: integers of 32 bits, of all randomness.
        things: what may occur.
        num_things: least and greatest number of things.
        size: height and width in pixels.
    """
    # RandomState and not a Generator: numpy has promised never to change its stream.
    rng = np.random.RandomState(list(seed))
    centers = (np.arange(size * _SUPERSAMPLING) + 0.5) / _SUPERSAMPLING
    rows, columns = np.meshgrid(centers, centers, indexing="ij")
    image, labels, grounds = _lay_grounds(rng, rows, columns, size)
    instances = np.zeros(labels.shape, np.uint8)
    count = rng.randint(num_things[0], num_things[1] + 1)
    chosen = tuple(things[index] for index in rng.randint(0, len(things), count))
    areas = [
        _place(rng, thing, number, image, labels, instances, rows, columns)
        for number, thing in enumerate(chosen, start=1)
    ]
    return Scene(
        image=_photograph(rng, image, rows, columns),
        # The sample next to the pixel's center.
        labels=np.ascontiguousarray(labels[::_SUPERSAMPLING, ::_SUPERSAMPLING]),
        instances=np.ascontiguousarray(instances[::_SUPERSAMPLING, ::_SUPERSAMPLING]),
        things=chosen,
        visible=tuple(
            float((instances == number).sum() / area) for number, area in enumerate(areas, start=1)
        ),
        grounds=grounds,
    )


def _lay_grounds(
    rng: RandomState, rows: np.ndarray, columns: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Covers the canvas: one ground, another below a wavy horizon, sometimes a pool of a third."""
    count = 2 + int(rng.uniform() < 0.4)
    kinds = rng.permutation(len(STUFF))[:count]
    image = ground(rng, STUFF[kinds[0]], rows, columns)
    labels = np.full(rows.shape, kinds[0], np.uint8)
    level = size * rng.uniform(0.3, 0.7)
    slope, phase = rng.uniform(-0.4, 0.4), rng.uniform(0, 2 * np.pi)
    wave = 3 * np.sin(columns / 11 + phase)
    regions = [rows > level + slope * (columns - size / 2) + wave]
    if count == 3:
        row, column = rng.uniform(0, size, 2)
        height, width = rng.uniform(0.2, 0.35, 2) * size
        regions.append(((rows - row) / height) ** 2 + ((columns - column) / width) ** 2 < 1)
    for kind, region in zip(kinds[1:], regions):
        image[region] = ground(rng, STUFF[kind], rows, columns)[region]
        labels[region] = kind
    present = np.unique(labels)
    return image, labels, tuple(STUFF[kind] for kind in kinds if kind in present)


def _place(
    rng: RandomState,
    thing: Thing,
    number: int,
    image: np.ndarray,
    labels: np.ndarray,
    instances: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
) -> int:
    """Draws one thing and its shadow into the canvases; returns how many samples it covers."""
    size = len(rows) / _SUPERSAMPLING
    radius = rng.uniform(*_RADIUS)
    row, column = rng.uniform(radius, size - radius, 2)
    turn = rng.uniform(-_MAX_TURN, _MAX_TURN)
    # Only the window that the thing and its shadow can reach.
    reach = 1.5 * radius
    window = tuple(
        slice(
            max(0, int((center - reach) * _SUPERSAMPLING)),
            int((center + reach) * _SUPERSAMPLING) + 1,
        )
        for center in (row, column)
    )
    down, right = (rows[window] - row) / radius, (columns[window] - column) / radius
    shadow = outline(thing.shape, *_rotate(right - _SHADOW, down - _SHADOW, turn))
    image[window][shadow] *= 0.6
    x, y = _rotate(right, down, turn)
    inside = outline(thing.shape, x, y)
    image[window][inside] = surface(rng, thing.color, thing.texture, x[inside], y[inside], radius)
    labels[window][inside] = CLASSES.index(thing.name)
    instances[window][inside] = number
    return int(inside.sum())


def _rotate(x: np.ndarray, y: np.ndarray, turn: float) -> tuple[np.ndarray, np.ndarray]:
    cosine, sine = np.cos(turn), np.sin(turn)
    return cosine * x + sine * y, cosine * y - sine * x


def _photograph(
    rng: RandomState, image: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Light from one side, pixels from samples, blur and noise; uint8."""
    size = len(rows) / _SUPERSAMPLING
    slant = rng.uniform(-0.2, 0.2, 2)
    light = rng.uniform(0.75, 1.1) + slant[0] * (rows / size - 0.5)
    light = light + slant[1] * (columns / size - 0.5)
    lit = (image * light[..., None]).clip(0, 255)
    step = range(_SUPERSAMPLING)
    samples = [lit[i::_SUPERSAMPLING, j::_SUPERSAMPLING] for i in step for j in step]
    pixels = sum(samples) / len(samples)
    pixels = blur(pixels, rng.randint(0, 2))
    pixels = pixels + rng.uniform(1, 7) * rng.standard_normal(pixels.shape)
    return np.rint(pixels).clip(0, 255).astype(np.uint8)
