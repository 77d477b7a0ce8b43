"""Label maps as PNG: exact class indices that also open as a colored picture."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from escnet_d2.io import atomic_path

# As many classes have a palette.
_MAX_PALETTE = 255


def unlabeled_value(num_classes: int) -> int:
    """Returns the value of pixels without a class in a label PNG: 255, or 65535 in 16 bits."""
    return 255 if num_classes <= _MAX_PALETTE else 65535


def save_label_png(
    path: str | os.PathLike, labels: np.ndarray, colors: np.ndarray, *, note: str = ""
) -> None:
    """Writes a label map losslessly and atomically.

    Up to 255 classes: an 8-bit palette PNG, whose pixel values are the class indices and whose
    palette holds the class colors; 255 is for pixels without a class, in black. More: 16-bit gray,
    65535 for those.

    Args:
        path: the PNG to write or replace.
        labels: (H, W) integers in 0..K-1, or -1 for no class.
        colors: (K, 3) uint8, RGB.
        note: a comment to store in the file.
    """
    if len(colors) <= _MAX_PALETTE:
        image = Image.fromarray(labels.astype(np.uint8))
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(colors)] = colors
        # All 256 entries, or Pillow would pack small palettes into fewer than 8 bits.
        image.putpalette(palette.tobytes())
    else:
        image = Image.fromarray(labels.astype(np.uint16))
    info = PngInfo()
    if note:
        info.add_text("Comment", note)
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG", pnginfo=info)
