"""A picture to look at: the image, tinted and outlined by class, with a legend."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from escnet_d2.structures import Segmentation

from .legend import PAPER, LegendRow, draw_legend, drawable_name
from .regions import class_areas

# Long side in pixels: smaller images are magnified, larger ones thinned out.
_MIN_SIDE = 256
_MAX_SIDE = 16384
_MIN_FONT_SIZE = 14


def draw_overlay(
    image: np.ndarray, segmentation: Segmentation, *, colors: np.ndarray, opacity: float = 0.5
) -> Image.Image:
    """Blends class colours into an image and puts a legend to its right.

    Each region is outlined in its own colour, undiluted. The legend lists the classes present by
    area. Images with a long side under 256 pixels are magnified by a whole number, those over 16384
    thinned out.

    Args:
        image: (H, W, 3) uint8, RGB.
        segmentation: labels (H, W) in 0..K-1.
        colors: (K, 3) uint8, RGB.
        opacity: of the colours, in [0, 1].

    Returns:
        An RGB image.

    Raises:
        ValueError: image and labels differ in size, or the opacity is out of range.
    """
    labels = segmentation.labels
    if image.shape != (*labels.shape, 3):
        raise ValueError(
            f"Expected an image of shape {(*labels.shape, 3)} for these labels, got {image.shape}."
        )
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be in [0, 1], got {opacity}.")
    rows = _legend_rows(segmentation, colors)
    image, labels = _viewing_size(image), _viewing_size(labels)
    # Geometric mean of the sides, so that text and lines suit panoramas too.
    side = math.sqrt(labels.size)

    tint = colors[labels]
    picture = np.array(Image.blend(Image.fromarray(image), Image.fromarray(tint), opacity))
    outline = _class_borders(labels, thickness=max(1, round(side / 700)))
    picture[outline] = tint[outline]
    legend = draw_legend(
        rows, font_size=max(_MIN_FONT_SIZE, round(side / 40)), min_height=labels.shape[0]
    )
    canvas = Image.new("RGB", (labels.shape[1] + legend.width, legend.height), PAPER)
    canvas.paste(Image.fromarray(picture), (0, 0))
    canvas.paste(legend, (labels.shape[1], 0))
    return canvas


def _legend_rows(segmentation: Segmentation, colors: np.ndarray) -> list[LegendRow]:
    """The classes present, largest first; ties by index."""
    labels = segmentation.labels
    areas = class_areas(labels, len(segmentation.class_names))
    by_area = [index for index in np.argsort(-areas, kind="stable") if areas[index]]
    return [
        LegendRow(
            color=tuple(colors[index].tolist()),
            name=drawable_name(segmentation.class_names[index], index),
            share=areas[index] / labels.size,
        )
        for index in by_area
    ]


def _viewing_size(array: np.ndarray) -> np.ndarray:
    """Repeats or drops pixels of (H, W, ...) until the long side is fit to look at."""
    long_side = max(array.shape[:2])
    if long_side < _MIN_SIDE:
        times = -(-_MIN_SIDE // long_side)
        return array.repeat(times, axis=0).repeat(times, axis=1)
    step = -(-long_side // _MAX_SIDE)
    return np.ascontiguousarray(array[::step, ::step])


def _class_borders(labels: np.ndarray, *, thickness: int) -> np.ndarray:
    """(H, W) bool: pixels within ``thickness`` of another class, along rows and columns."""
    borders = np.zeros(labels.shape, bool)
    for distance in range(1, thickness + 1):
        across = labels[:, distance:] != labels[:, :-distance]
        borders[:, distance:] |= across
        borders[:, :-distance] |= across
        down = labels[distance:] != labels[:-distance]
        borders[distance:] |= down
        borders[:-distance] |= down
    return borders
