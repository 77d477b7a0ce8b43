"""Reading label images: one integer per pixel, in whatever container a data set ships them."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image

from .images import DECODING_ERRORS

# Pillow modes whose samples are the labels themselves; a palette image (P) yields its indices.
LABEL_MODES = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B", "I;16N")
# Pillow stretches 2- and 4-bit grey to 0..255. Whether 17 in such a file is the label 17 or the
# label 1 depends on who wrote it, so these are refused rather than guessed.
_STRETCHED_LAYOUTS = ("L;2", "L;4")


def read_label_map(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads a label image as integers, without interpreting their values.

    Accepts 1-, 8-, 16- and 32-bit grey (PNG, TIF and others) and palette images, whose indices are
    the labels. Unlabelled pixels keep the value they have in the file, e.g. 255 or 65535; unsigned
    32-bit values from 2^31 on come out negative.

    Args:
        path: the label image.

    Returns:
        Labels, int64, shape (H, W).

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, no image, or not a label image (RGB, grey with alpha,
            float, 2- or 4-bit grey); the message names it.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"Label image {path} does not exist.")
    try:
        with Image.open(path) as image:
            mode = image.mode
            stretched = any(_layout(tile).startswith(_STRETCHED_LAYOUTS) for tile in image.tile)
            labels = np.asarray(image)
    except DECODING_ERRORS as error:
        raise ValueError(f"Label image {path} cannot be read: {error}") from error
    if mode not in LABEL_MODES:
        raise ValueError(
            f"Label image {path} has mode {mode}: expected one integer per pixel "
            f"(8-, 16- or 32-bit grey, or palette). Convert its colours to class indices first."
        )
    if stretched:
        raise ValueError(
            f"Label image {path} is 2- or 4-bit grey, whose values are ambiguous: save it as 8-bit."
        )
    return labels.astype(np.int64)


def _layout(tile: tuple) -> str:
    """The file's own pixel layout as Pillow names it: the decoder's argument, or its first."""
    arguments = tile[3]
    return arguments if isinstance(arguments, str) else str((arguments or ("",))[0])
