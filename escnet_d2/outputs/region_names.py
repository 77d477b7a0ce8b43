"""Where the names of the classes go in a picture, and the fonts that they are written in."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

# Positions are looked for on a map of about this many cells along its longer side.
_SEARCH_SIDE = 640
# A name keeps this part of the font size away from the border of its region.
_PADDING = 0.35
_MAX_LINES = 4
# Of Pillow, in units of the font size, to the next line.
_LINE_HEIGHT = 1.25
# More than fit: measuring a name takes as long as it is.
MAX_CHARACTERS = 100


def load_font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Returns matplotlib's font, with Latin, Greek and Cyrillic letters, in a size in pixels."""
    return ImageFont.truetype(str(_font_file(bold)), size)


def drawable_name(name: str, index: int) -> str:
    """Returns a class name, any text, as pictures can show it.

    Names in scripts that the font lacks, or that are written from right to left, become
    ``class <index>``, the index of the label PNG, the JSON record and classes.txt.
    """
    plain = unicodedata.normalize("NFC", " ".join(name.split()))
    if plain and plain.isprintable() and all(map(_is_drawable, plain[:MAX_CHARACTERS])):
        return plain
    return f"class {index}"


def shorten(name: str, font: ImageFont.FreeTypeFont, max_width: float) -> str:
    """Cuts a name to a width in pixels."""
    name = name[:MAX_CHARACTERS]
    if font.getlength(name) <= max_width:
        return name
    while font.getlength(f"{name}...") > max_width:
        name = name[:-1]
    return f"{name.rstrip()}..."


def name_positions(
    labels: np.ndarray, names: dict[int, str], font: ImageFont.FreeTypeFont
) -> Iterator[tuple[str, tuple[int, int]]]:
    """Finds the place of a class's name in each of its connected regions where it fits.

    That is the center farthest from the region's border of all where the whole name lies inside, in
    one line or else with a line for each word.

    Args:
        labels: (H, W) integers.
        names: class index to name.
        font: in which it is written.

    Yields:
        Text, and its center (x, y) in pixels.
    """
    step = max(1, round(max(labels.shape) / _SEARCH_SIDE))
    # With a border around the image, which bounds regions too.
    cells = np.pad(labels[::step, ::step].astype(np.int32), 1, constant_values=-1)
    for index, name in names.items():
        mask = (cells == index).astype(np.uint8)
        room, done = cv2.countNonZero(mask), {0}
        for text in _layouts(name):
            width, height = (round(side / step) | 1 for side in _text_size(text, font))
            if width * height > room:
                continue
            fits = cv2.erode(mask, np.ones((height, width), np.uint8)) > 0
            if not fits.any():
                continue
            _, regions, boxes, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
            depth = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
            for region in {*np.unique(regions[fits]).tolist()} - done:
                x, y, box_width, box_height = boxes[region, :4]
                box = slice(y, y + box_height), slice(x, x + box_width)
                inner = np.where(fits[box] & (regions[box] == region), depth[box], 0)
                row, column = np.unravel_index(inner.argmax(), inner.shape)
                yield text, (int(x + column - 1) * step, int(y + row - 1) * step)
                done.add(region)


def _layouts(name: str) -> list[str]:
    """Returns the ways to write a name, the best first; none where it is too long to read."""
    if len(name) > MAX_CHARACTERS:
        return []
    words = name.split(" ")
    return [name, "\n".join(words)] if 1 < len(words) <= _MAX_LINES else [name]


def _text_size(text: str, font: ImageFont.FreeTypeFont) -> tuple[float, float]:
    """Returns width and height in pixels, with what a name keeps from the border."""
    lines = text.split("\n")
    padding = 2 * _PADDING * font.size
    height = font.size * (1 + _LINE_HEIGHT * (len(lines) - 1))
    return max(map(font.getlength, lines)) + padding, height + padding


@functools.lru_cache(maxsize=2)
def _font_file(bold: bool) -> Path:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return Path(matplotlib.get_data_path(), "fonts", "ttf", name)


@functools.lru_cache(maxsize=1)
def _letters() -> frozenset[int]:
    return frozenset(FT2Font(str(_font_file(True))).get_charmap())


def _is_drawable(letter: str) -> bool:
    return ord(letter) in _letters() and unicodedata.bidirectional(letter) not in ("R", "AL")
