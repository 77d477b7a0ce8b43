"""Label maps as PNG: exact class indices that also open as a coloured picture."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image

from escnet_d2.io import atomic_path

_IGNORE_8BIT = 255
_IGNORE_16BIT = 65535


def ignore_label(num_classes: int) -> int:
    """The value that stays free for unlabelled pixels: 255 up to 255 classes, else 65535.

    Args:
        num_classes: K, 1 to 65535.

    Raises:
        ValueError: more classes than 16 bits hold.
    """
    if not 1 <= num_classes <= _IGNORE_16BIT:
        raise ValueError(f"Label PNGs hold 1 to {_IGNORE_16BIT} classes, got {num_classes}.")
    return _IGNORE_8BIT if num_classes <= _IGNORE_8BIT else _IGNORE_16BIT


def save_label_png(path: str | os.PathLike, labels: np.ndarray, colors: np.ndarray) -> None:
    """Writes a label map losslessly and atomically.

    Up to 255 classes: an 8-bit palette PNG, whose pixel values are the class indices and whose
    palette holds the class colours (255, unlabelled, is black). More: 16-bit grey.

    Args:
        path: the PNG to write or replace.
        labels: (H, W) integers in 0..K-1, or :func:`ignore_label` of K where unlabelled.
        colors: (K, 3) uint8, RGB.

    Raises:
        ValueError: a label that is no class, or too many classes.
    """
    num_classes = len(colors)
    ignore = ignore_label(num_classes)
    wrong = (labels < 0) | ((labels >= num_classes) & (labels != ignore))
    if wrong.any():
        raise ValueError(
            f"{path}: labels must be 0 to {num_classes - 1} or {ignore}, "
            f"got {np.unique(labels[wrong])[:5].tolist()}."
        )
    if ignore == _IGNORE_8BIT:
        image = Image.fromarray(labels.astype(np.uint8))
        palette = np.zeros((256, 3), np.uint8)
        palette[:num_classes] = colors
        # All 256 entries, or Pillow would pack small palettes into fewer than 8 bits.
        image.putpalette(palette.tobytes())
    else:
        image = Image.fromarray(labels.astype(np.uint16))
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")
