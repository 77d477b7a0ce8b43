"""Reading label images: one integer per pixel, in whatever container a data set ships them."""

from __future__ import annotations

import os
import re

import numpy as np
from PIL import Image

from .images import DECODING_ERRORS

# Pillow modes whose samples are the labels themselves; a palette image (P) yields its indices.
LABEL_MODES = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B", "I;16N")


def read_label_map(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads a label image as integers, without interpreting their values.

    Accepts 1-, 8-, 16- and 32-bit gray (PNG, TIF and others) and palette images, whose indices are
    the labels. Unlabeled pixels keep the value they have in the file, e.g. 255 or 65535; unsigned
    32-bit values from 2^31 on come out negative.

    Returns:
        Labels, int64, shape (H, W).

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or not a label image (RGB, gray with alpha, float, 2- or
            4-bit gray); the message names it.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"Label image {path} does not exist.")
    try:
        with Image.open(path) as image:
            mode = image.mode
            # Pillow stretches 2- and 4-bit gray to 0..255. Whether 17 in such a file is the label
            # 17 or 1 depends on who wrote it. The decoder's arguments tell the file's own layout.
            stretched = re.search(r"\bL;[24]", str([tile[3] for tile in image.tile]))
            labels = np.asarray(image)
    except DECODING_ERRORS as error:
        raise ValueError(f"Label image {path} cannot be read: {error}") from error
    if mode not in LABEL_MODES:
        raise ValueError(
            f"Label image {path} has mode {mode}: expected one integer per pixel "
            f"(8-, 16- or 32-bit gray, or palette). Convert its colors to class indices first."
        )
    if stretched:
        raise ValueError(
            f"Label image {path} is 2- or 4-bit gray, whose values are ambiguous: save it as 8-bit."
        )
    return labels.astype(np.int64)
