"""A picture to look at: the image in the colors of its classes, with their names and a legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from escnet_d2.structures import Segmentation

from .palette import BACKGROUND_COLOR, is_background
from .region_names import drawable_name, load_font, name_positions, shorten

# Long side in pixels: smaller images are magnified, larger ones thinned out.
_MIN_SIDE = 512
_MAX_SIDE = 8192
# Pixels blended at a time.
_STRIP = 2**22
_PAPER = (250, 250, 250)
_INK = (25, 25, 25)
_SWATCH_EDGE = (170, 170, 170)
_MIN_FONT_SIZE = 14
# In units of the font size.
_ROW_HEIGHT = 1.6
_MARGIN = 0.8
_COLUMN_GAP = 1.8
_MAX_NAME_WIDTH = 14
_HALO = 0.14
_MIN_ROWS = 8
_MAX_COLUMNS = 3

# A line of the legend: index of the class or None, name, share of the area in [0, 1] or None.
_Line = tuple[Optional[int], str, Optional[float]]


def draw_overlay(
    image: np.ndarray,
    segmentation: Segmentation,
    *,
    colors: np.ndarray,
    opacity: float = 0.5,
    side_by_side: bool = False,
    with_legend: bool = True,
    note: str = "",
) -> Image.Image:
    """Blends class colors into an image, names its regions and puts a legend to its right.

    Each region is outlined in its own color, undiluted, and bears the name of its class where that
    fits. What is ``background`` or unlabeled turns gray and has neither. The legend lists the
    classes present by area, with the colors in which they are seen. Images with a long side under
    512 pixels are magnified by a whole number, those over 8192 thinned out.

    Args:
        image: (H, W, 3) uint8, RGB.
        segmentation: labels (H, W) in 0..K-1, or -1 where there is none.
        colors: (K, 3) uint8, RGB.
        opacity: of the colors, in [0, 1]; 0 leaves outlines and names only.
        side_by_side: puts the image itself to the left.
        with_legend: adds the legend.
        note: first line of the legend.

    Returns:
        An RGB image.

    Raises:
        ValueError: image and labels differ in size.
    """
    labels, names = segmentation.labels, segmentation.class_names
    if image.shape != (*labels.shape, 3):
        raise ValueError(
            f"Expected an image of shape {(*labels.shape, 3)} for these labels, got {image.shape}."
        )
    lines: list[_Line] = [(None, note, None)] if note else []
    areas = segmentation.class_areas()
    present = [index for index in np.argsort(-areas, kind="stable") if areas[index]]
    shown_names = {index: drawable_name(names[index], index) for index in present}
    lines += [(index, shown_names[index], areas[index] / labels.size) for index in present]
    image, labels = _viewing_size(image), _viewing_size(labels)
    height, width = labels.shape
    # Geometric mean of the sides, so that text and lines suit panoramas too.
    side = math.sqrt(labels.size)
    left = width + max(2, round(side / 100)) if side_by_side else 0
    size = left + width, height
    if with_legend:
        legend = _Legend.of(lines, max(_MIN_FONT_SIZE, round(side / 40)), height)
        size = left + width + legend.width, legend.height
    canvas = Image.new("RGB", size, _PAPER)
    if side_by_side:
        canvas.paste(Image.fromarray(np.ascontiguousarray(image)), (0, 0))
    is_gray = np.array([*map(is_background, names), True])
    seen = _paint(canvas, left, image, labels, colors, is_gray, opacity=opacity)
    if with_legend:
        legend.draw(canvas, left + width, seen if opacity else np.full_like(seen, _PAPER), colors)
    font = load_font(max(_MIN_FONT_SIZE, round(side / 36)), bold=True)
    on_regions = {index: text for index, text in shown_names.items() if not is_gray[index]}
    draw, halo = ImageDraw.Draw(canvas), max(2, round(_HALO * font.size))
    style = {"font": font, "anchor": "mm", "align": "center", "fill": "white"}
    for text, (x, y) in name_positions(labels, on_regions, font):
        draw.text((left + x, y), text, stroke_width=halo, stroke_fill=_INK, **style)
    return canvas


def _paint(
    canvas: Image.Image,
    left: int,
    image: np.ndarray,
    labels: np.ndarray,
    colors: np.ndarray,
    is_gray: np.ndarray,
    *,
    opacity: float,
) -> np.ndarray:
    """Draws tints and outlines; returns the mean color in which each class is seen, (K, 3)."""
    height, width = labels.shape
    # The last is that of label -1.
    tints = np.concatenate([colors, [BACKGROUND_COLOR]]).astype(np.uint8)
    # Outlines that stand alone are twice as thick.
    thickness = max(1, round(math.sqrt(labels.size) / 600)) * (1 if opacity else 2)
    sums = np.zeros((len(tints), 4))
    step = max(1, _STRIP // width)
    for top in range(0, height, step):
        # With the rows whose classes still matter for the outlines.
        above = min(top, thickness)
        around = labels[top - above : top + step + thickness]
        rows = slice(above, above + step)
        shown = around[rows] % len(tints)
        photo = np.ascontiguousarray(image[top : top + step])
        gray = is_gray[shown]
        photo = np.where(gray[..., None], cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[..., None], photo)
        blended = Image.blend(Image.fromarray(photo), Image.fromarray(tints[shown]), opacity)
        strip = np.array(blended)
        for channel, values in enumerate((*np.moveaxis(strip, 2, 0), np.ones(shown.shape))):
            sums[:, channel] += np.bincount(shown.ravel(), values.ravel(), len(tints))
        outline = _class_borders(around, thickness=thickness)[rows] & ~gray
        strip[outline] = tints[shown[outline]]
        canvas.paste(Image.fromarray(strip), (left, top))
    return (sums[:-1, :3] / np.maximum(sums[:-1, 3:], 1)).astype(np.uint8)


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


@dataclass(frozen=True)
class _Legend:
    """Lines in up to three columns; those that do not fit are summed up in the last."""

    lines: Sequence[_Line]
    font: ImageFont.FreeTypeFont
    rows_per_column: int
    column_width: int
    width: int
    height: int

    @classmethod
    def of(cls, lines: Sequence[_Line], font_size: int, min_height: int) -> _Legend:
        font = load_font(font_size)
        row_height = round(_ROW_HEIGHT * font_size)
        margin, gap = round(_MARGIN * font_size), round(_COLUMN_GAP * font_size)
        rows_per_column = max(_MIN_ROWS, (min_height - 2 * margin) // row_height)
        limit = rows_per_column * _MAX_COLUMNS
        if len(lines) > limit:
            others = lines[limit - 1 :]
            rest = (None, f"{len(others)} more", sum(share for _, _, share in others))
            lines = [*lines[: limit - 1], rest]
        max_width = _MAX_NAME_WIDTH * font_size
        lines = [(index, shorten(name, font, max_width), share) for index, name, share in lines]
        texts = [[name for _, name, _ in lines], [_percent(share) for _, _, share in lines]]
        name_width, share_width = (max(map(font.getlength, text), default=0) for text in texts)
        # Swatch, half a font size, name, one font size, share.
        column_width = round(font_size * 2.9 + name_width + share_width)
        columns = -(-len(lines) // rows_per_column)
        height = max(min_height, 2 * margin + min(len(lines), rows_per_column) * row_height)
        width = 2 * margin + columns * column_width + max(0, columns - 1) * gap
        return cls(lines, font, rows_per_column, column_width, width, height)

    def draw(self, canvas: Image.Image, left: int, seen: np.ndarray, colors: np.ndarray) -> None:
        """Draws the lines; a swatch looks like its regions: the color seen, and the outline's."""
        draw, size = ImageDraw.Draw(canvas), self.font.size
        row_height, margin = round(_ROW_HEIGHT * size), round(_MARGIN * size)
        step = self.column_width + round(_COLUMN_GAP * size)
        for position, (index, name, share) in enumerate(self.lines):
            column, row = divmod(position, self.rows_per_column)
            x, middle = left + margin + column * step, margin + round((row + 0.5) * row_height)
            if index is not None:
                half = round(0.55 * size)
                corners = (x, middle - half, x + round(1.4 * size) - 1, middle + half - 1)
                fill, outline = tuple(seen[index].tolist()), tuple(colors[index].tolist())
                # Snow is white as the paper.
                around = (corners[0] - 1, corners[1] - 1, corners[2] + 1, corners[3] + 1)
                draw.rectangle(around, outline=_SWATCH_EDGE)
                draw.rectangle(corners, fill=fill, outline=outline, width=max(2, round(size / 7)))
            draw.text((x + 1.9 * size, middle), name, fill=_INK, font=self.font, anchor="lm")
            right = (x + self.column_width, middle)
            draw.text(right, _percent(share), fill=_INK, font=self.font, anchor="rm")


def _percent(share: float | None) -> str:
    if share is None:
        return ""
    return f"{100 * share:.1f} %" if share >= 0.001 else "< 0.1 %"
