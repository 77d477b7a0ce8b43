"""A picture to look at: the image, tinted and outlined by class, with a legend beside it."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from typing import Optional

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from escnet_d2.structures import Segmentation

# Long side in pixels: smaller images are magnified, larger ones thinned out.
_MIN_SIDE = 256
_MAX_SIDE = 8192
# Pixels blended at a time.
_STRIP = 2**22
_PAPER = (250, 250, 250)
_INK = (25, 25, 25)
_SWATCH_EDGE = (90, 90, 90)
_MIN_FONT_SIZE = 14
# In units of the font size.
_ROW_HEIGHT = 1.5
_MARGIN = 0.8
_COLUMN_GAP = 1.8
_MAX_NAME_WIDTH = 14
# More than fit: measuring a name takes as long as it is.
_MAX_CHARACTERS = 100
_MIN_ROWS = 8
_MAX_COLUMNS = 3

# A line of the legend: RGB of the swatch, name, share of the area in [0, 1]; None without one.
_Line = tuple[Optional[tuple[int, ...]], str, Optional[float]]


def draw_overlay(
    image: np.ndarray,
    segmentation: Segmentation,
    *,
    colors: np.ndarray,
    opacity: float = 0.5,
    note: str = "",
) -> Image.Image:
    """Blends class colors into an image and puts a legend to its right.

    Each region is outlined in its own color, undiluted. The legend lists the classes present by
    area. Images with a long side under 256 pixels are magnified by a whole number, those over 8192
    thinned out.

    Args:
        image: (H, W, 3) uint8, RGB.
        segmentation: labels (H, W) in 0..K-1.
        colors: (K, 3) uint8, RGB.
        opacity: of the colors, in [0, 1].
        note: first line of the legend.

    Returns:
        An RGB image.

    Raises:
        ValueError: image and labels differ in size.
    """
    labels = segmentation.labels
    if image.shape != (*labels.shape, 3):
        raise ValueError(
            f"Expected an image of shape {(*labels.shape, 3)} for these labels, got {image.shape}."
        )
    lines: list[_Line] = [(None, note, None)] if note else []
    areas = segmentation.class_areas()
    for index in np.argsort(-areas, kind="stable"):
        if areas[index]:
            name = drawable_name(segmentation.class_names[index], index)
            lines.append((tuple(colors[index].tolist()), name, areas[index] / labels.size))
    image, labels = _viewing_size(image), _viewing_size(labels)
    height, width = labels.shape
    # Geometric mean of the sides, so that text and lines suit panoramas too.
    side = math.sqrt(labels.size)
    legend = _draw_legend(lines, max(_MIN_FONT_SIZE, round(side / 40)), height)
    canvas = Image.new("RGB", (width + legend.width, legend.height), _PAPER)
    thickness = max(1, round(side / 700))
    step = max(1, _STRIP // width)
    for top in range(0, height, step):
        # With the rows whose classes still matter for the outlines.
        above = min(top, thickness)
        shown = labels[top - above : top + step + thickness]
        rows = slice(above, above + step)
        tint = colors[shown[rows]]
        photo = np.ascontiguousarray(image[top : top + step])
        strip = np.array(Image.blend(Image.fromarray(photo), Image.fromarray(tint), opacity))
        outline = _class_borders(shown, thickness=thickness)[rows]
        strip[outline] = tint[outline]
        canvas.paste(Image.fromarray(strip), (0, top))
    canvas.paste(legend, (width, 0))
    return canvas


def drawable_name(name: str, index: int) -> str:
    """Returns a class name, any text, as the legend can show it.

    Pillow's built-in font has ASCII only: accents are dropped, and names in other scripts become
    ``class <index>``, the index of the label PNG, the JSON record and classes.txt.
    """
    decomposed = unicodedata.normalize("NFKD", " ".join(name.split()))
    plain = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return plain if plain.isascii() and plain.isprintable() and plain else f"class {index}"


def _viewing_size(array: np.ndarray) -> np.ndarray:
    """Repeats or drops pixels of (H, W, ...) until the long side is fit to look at."""
    long_side = max(array.shape[:2])
    if long_side < _MIN_SIDE:
        times = -(-_MIN_SIDE // long_side)
        return array.repeat(times, axis=0).repeat(times, axis=1)
    step = -(-long_side // _MAX_SIDE)
    return array[::step, ::step]


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


def _draw_legend(lines: Sequence[_Line], font_size: int, min_height: int) -> Image.Image:
    """Draws the lines in up to three columns; those that do not fit are summed up in the last."""
    font = ImageFont.load_default(font_size)
    row_height = round(_ROW_HEIGHT * font_size)
    margin, gap = round(_MARGIN * font_size), round(_COLUMN_GAP * font_size)
    rows_per_column = max(_MIN_ROWS, (min_height - 2 * margin) // row_height)
    limit = rows_per_column * _MAX_COLUMNS
    if len(lines) > limit:
        others = lines[limit - 1 :]
        rest = (None, f"{len(others)} more", sum(share for _, _, share in others))
        lines = [*lines[: limit - 1], rest]
    names = [_shorten(name, font, _MAX_NAME_WIDTH * font_size) for _, name, _ in lines]
    shares = [_percent(share) for _, _, share in lines]
    name_width, share_width = (max(map(font.getlength, texts)) for texts in (names, shares))
    # Swatch, half a font size, name, one font size, share.
    column_width = round(font_size * 2.5 + name_width + share_width)
    columns = -(-len(lines) // rows_per_column)
    height = max(min_height, 2 * margin + min(len(lines), rows_per_column) * row_height)
    width = 2 * margin + columns * column_width + (columns - 1) * gap
    legend = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(legend)
    for position, ((color, _, _), name, share) in enumerate(zip(lines, names, shares)):
        column, row = divmod(position, rows_per_column)
        left = margin + column * (column_width + gap)
        middle = margin + round((row + 0.5) * row_height)
        if color is not None:
            top = middle - font_size // 2
            corners = (left, top, left + font_size - 1, top + font_size - 1)
            draw.rectangle(corners, fill=color, outline=_SWATCH_EDGE, width=max(1, font_size // 14))
        draw.text((left + 1.5 * font_size, middle), name, fill=_INK, font=font, anchor="lm")
        draw.text((left + column_width, middle), share, fill=_INK, font=font, anchor="rm")
    return legend


def _shorten(name: str, font: ImageFont.FreeTypeFont, max_width: float) -> str:
    name = name[:_MAX_CHARACTERS]
    if font.getlength(name) <= max_width:
        return name
    while font.getlength(f"{name}...") > max_width:
        name = name[:-1]
    return f"{name.rstrip()}..."


def _percent(share: float | None) -> str:
    if share is None:
        return ""
    return f"{100 * share:.1f} %" if share >= 0.001 else "< 0.1 %"
