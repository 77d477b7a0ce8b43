"""The legend beside an overlay: swatch, class name and share of the area."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

PAPER = (250, 250, 250)
_INK = (25, 25, 25)
_SWATCH_EDGE = (90, 90, 90)
# In units of the font size.
_ROW_HEIGHT = 1.5
_MARGIN = 0.8
_COLUMN_GAP = 1.8
_MAX_NAME_WIDTH = 14
_MIN_ROWS = 8
_MAX_COLUMNS = 3


@dataclass(frozen=True)
class LegendRow:
    """One line of the legend.

    Attributes:
        color: RGB of the swatch, 0 to 255.
        name: text that the font can draw, see :func:`drawable_name`.
        share: of the image's area, in [0, 1].
    """

    color: tuple[int, int, int]
    name: str
    share: float


def drawable_name(name: str, index: int) -> str:
    """What the legend calls a class.

    Pillow's built-in font has ASCII only: accents are dropped, and names in other scripts become
    ``class <index>``, the index of the label PNG, the JSON record and classes.txt.

    Args:
        name: the class name, any text.
        index: of the class, from 0.
    """
    decomposed = unicodedata.normalize("NFKD", " ".join(name.split()))
    plain = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return plain if plain.isascii() and plain.isprintable() and plain else f"class {index}"


def draw_legend(rows: Sequence[LegendRow], *, font_size: int, min_height: int) -> Image.Image:
    """Draws the rows from top to bottom, in up to three columns.

    Args:
        rows: the classes, largest first. What does not fit is summed up in a last line.
        font_size: in pixels.
        min_height: height of the picture beside it, in pixels; the legend is at least eight rows
            high.

    Returns:
        An RGB image.
    """
    font = _font(font_size)
    row_height = round(_ROW_HEIGHT * font_size)
    margin, gap = round(_MARGIN * font_size), round(_COLUMN_GAP * font_size)
    rows_per_column = max(_MIN_ROWS, (min_height - 2 * margin) // row_height)
    lines = _lines(rows, rows_per_column * _MAX_COLUMNS, font, _MAX_NAME_WIDTH * font_size)

    name_width = max(font.getlength(name) for _, name, _ in lines)
    share_width = max(font.getlength(share) for _, _, share in lines)
    # Swatch, half a font size, name, one font size, share.
    column_width = round(font_size * 2.5 + name_width + share_width)
    columns = -(-len(lines) // rows_per_column)
    height = max(min_height, 2 * margin + min(len(lines), rows_per_column) * row_height)
    width = 2 * margin + columns * column_width + (columns - 1) * gap
    legend = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(legend)
    for position, (color, name, share) in enumerate(lines):
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


def _lines(
    rows: Sequence[LegendRow], limit: int, font: ImageFont.FreeTypeFont, max_width: float
) -> list[tuple[tuple[int, int, int] | None, str, str]]:
    """Colour, name and share as text; at most ``limit`` lines."""
    shown = rows if len(rows) <= limit else rows[: limit - 1]
    lines = [(row.color, _shorten(row.name, font, max_width), _percent(row.share)) for row in shown]
    if len(shown) < len(rows):
        others = rows[len(shown) :]
        lines.append((None, f"{len(others)} more", _percent(sum(row.share for row in others))))
    return lines


def _shorten(name: str, font: ImageFont.FreeTypeFont, max_width: float) -> str:
    if font.getlength(name) <= max_width:
        return name
    while name and font.getlength(name + "...") > max_width:
        name = name[:-1]
    return name.rstrip() + "..."


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 else "< 0.1 %"


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
