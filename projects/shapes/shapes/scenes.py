"""Composes scenes: grounds, scraps on them, and things that overlap, lit and photographed.

A thing has three parts and a rim around them. Each part shows one of its attributes and says
nothing of the others, so that no patch names its thing: all that its outline encloses does. Scraps
are parts that belong to no thing.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .drawing import (
    THING_COLORS,
    Color,
    RandomState,
    blur,
    color_part,
    ground,
    shape_part,
    texture_part,
)
from .world import CLASSES, STUFF, THINGS, Thing

SIZE = 192
# Samples per pixel along each axis.
_SUPERSAMPLING = 2
# In pixels.
_RADIUS = (24.0, 52.0)
_SCRAP_RADIUS = (10.0, 20.0)
_NUM_SCRAPS = (2, 5)
_MAX_TEXTURE_TURN = np.pi / 12
# Where a thing is cut into parts, in radii from its middle.
_CUTS = ((-0.42, -0.14), (0.14, 0.42))
# Relative to the thing's radius: how far its shadow falls, and how wide its dark rim is.
_SHADOW = 0.1
_RIM = 0.06

Outline = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Scene:
    """One scene.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        labels: uint8 (H, W), index into ``CLASSES``; scraps count as the ground below them.
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
    num_things: tuple[int, int] = (2, 4),
    size: int = SIZE,
    any_colors: bool = False,
) -> Scene:
    """Draws a scene; the same for the same arguments, on every machine.

    Args:
        seed: integers of 32 bits, of all randomness.
        things: what may occur.
        num_things: least and greatest number of things.
        size: height and width in pixels.
        any_colors: draw the colors themselves, so that their names mean nothing.
    """
    # RandomState and not a Generator: numpy has promised never to change its stream.
    rng = np.random.RandomState(list(seed))
    centers = (np.arange(size * _SUPERSAMPLING) + 0.5) / _SUPERSAMPLING
    rows, columns = np.meshgrid(centers, centers, indexing="ij")
    image, labels, grounds = _lay_grounds(rng, rows, columns, size)
    instances = np.zeros(labels.shape, np.uint8)
    colors = _draw_colors(rng) if any_colors else THING_COLORS
    for _ in range(rng.randint(_NUM_SCRAPS[0], _NUM_SCRAPS[1] + 1)):
        _scatter_scrap(rng, colors, image, rows, columns)
    count = rng.randint(num_things[0], num_things[1] + 1)
    chosen = tuple(things[index] for index in rng.randint(0, len(things), count))
    areas = [
        _place(rng, thing, colors, number, image, labels, instances, rows, columns)
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


def _draw_colors(rng: RandomState) -> dict[str, Color]:
    """Any color for each name of one, saturated and bright enough to stand out."""
    return {
        name: tuple(
            255 * value
            for value in colorsys.hsv_to_rgb(
                rng.uniform(), rng.uniform(0.3, 1.0), rng.uniform(0.3, 1.0)
            )
        )
        for name in THING_COLORS
    }


def _place(
    rng: RandomState,
    thing: Thing,
    colors: Mapping[str, Color],
    number: int,
    image: np.ndarray,
    labels: np.ndarray,
    instances: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
) -> int:
    """Draws one thing and its shadow into the canvases; returns how many samples it covers."""
    radius = rng.uniform(*_RADIUS)
    window, right, down = _window(rng, radius, rows, columns)
    is_inside = _body(rng)
    turn = rng.uniform(0, 2 * np.pi)
    image[window][is_inside(*_rotate(right - _SHADOW, down - _SHADOW, turn))] *= 0.6
    x, y = _rotate(right, down, turn)
    inside = is_inside(x, y)
    cuts = [rng.uniform(*cut) for cut in _CUTS]
    part = (x > cuts[0]).astype(int) + (x > cuts[1])
    parts = [inside & (part == index) for index in range(3)]
    _paint(rng, thing, colors, list(rng.permutation(3)), parts, image[window], right, down, radius)
    image[window][inside & ~is_inside(x / (1 - _RIM), y / (1 - _RIM))] *= 0.25
    labels[window][inside] = CLASSES.index(thing.name)
    instances[window][inside] = number
    return int(inside.sum())


def _scatter_scrap(
    rng: RandomState,
    colors: Mapping[str, Color],
    image: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
) -> None:
    """Draws a part of any thing on its own."""
    radius = rng.uniform(*_SCRAP_RADIUS)
    window, right, down = _window(rng, radius, rows, columns)
    inside = _body(rng)(*_rotate(right, down, rng.uniform(0, 2 * np.pi)))
    thing = THINGS[rng.randint(len(THINGS))]
    _paint(rng, thing, colors, [rng.randint(3)], [inside], image[window], right, down, radius)


def _window(
    rng: RandomState, radius: float, rows: np.ndarray, columns: np.ndarray
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """Draws a place; returns the samples around it, and theirs to the right and down, in radii."""
    size = len(rows) / _SUPERSAMPLING
    row, column = rng.uniform(0.6 * radius, size - 0.6 * radius, 2)
    reach = 1.35 * radius
    window = tuple(
        slice(
            max(0, int((center - reach) * _SUPERSAMPLING)),
            int((center + reach) * _SUPERSAMPLING) + 1,
        )
        for center in (row, column)
    )
    return window, (columns[window] - column) / radius, (rows[window] - row) / radius


def _body(rng: RandomState) -> Outline:
    """Draws an outline of radius 1: an ellipse, or a rounded rectangle one time in three."""
    aspect, power = rng.uniform(0.7, 1.0), (2, 2, 4)[rng.randint(3)]
    return lambda x, y: x**power + (y / aspect) ** power <= 1.0


def _paint(
    rng: RandomState,
    thing: Thing,
    colors: Mapping[str, Color],
    kinds: Sequence[int],
    parts: Sequence[np.ndarray],
    image: np.ndarray,
    right: np.ndarray,
    down: np.ndarray,
    radius: float,
) -> None:
    """Paints the samples of each part: 0 shows the color, 1 the texture, 2 the shape."""
    turn = rng.uniform(-_MAX_TEXTURE_TURN, _MAX_TEXTURE_TURN)
    light, tint = rng.uniform(0, 2 * np.pi), rng.uniform(0.9, 1.08, 3)
    for kind, part in zip(kinds, parts):
        x, y = right[part], down[part]
        u, v = _rotate(x * radius, y * radius, turn)
        if kind == 0:
            paint = color_part(colors[thing.color], u)
        elif kind == 1:
            paint = texture_part(rng, thing.texture, u, v)
        else:
            paint = shape_part(rng, thing.shape, u, v)
        shade = 1 + 0.12 * (x * np.cos(light) + y * np.sin(light))
        image[part] = paint * tint * shade[:, None]


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
