"""Pictures of every kind as one array: 8-bit RGB, upright."""

from __future__ import annotations

import logging
import os
import stat
import struct
import warnings
import zlib
from typing import Union

import numpy as np
from PIL import Image, ImageOps

ImageInput = Union[str, os.PathLike, Image.Image, np.ndarray]

# 16 bits to 8: 65535 -> 255.
_UINT16_TO_UINT8 = 257
# Pillow's on files that are cut short, corrupt or not pictures at all.
DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

# Raster formats that Pillow decodes; its own list also has PDF, video and write-only formats.
# fmt: off
IMAGE_SUFFIXES = frozenset((
    ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg",
    ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp",
))
# fmt: on
# Phones' photos, by an optional package.
HEIF_SUFFIXES = frozenset((".heic", ".heif", ".hif"))
try:
    from pillow_heif import register_heif_opener
except ImportError:
    pass
else:
    register_heif_opener()
    IMAGE_SUFFIXES |= HEIF_SUFFIXES

logger = logging.getLogger(__name__)


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Reads a picture and turns it upright by its EXIF orientation.

    Of files with several frames the first is read.

    Args:
        path: any format that Pillow reads; gray, palette, alpha and 16-bit as in :func:`to_rgb`.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        FileNotFoundError: no such file (and other errors of opening it, such as PermissionError).
        ValueError: empty, not a picture or not a regular file, truncated, corrupt, of a pixel type
            without a known range, or larger than twice ``PIL.Image.MAX_IMAGE_PIXELS``; the message
            names the file.
    """
    status = os.stat(path)
    # A pipe would block for ever.
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"Cannot read image {os.fspath(path)}: it is not a regular file.")
    if status.st_size == 0:
        raise ValueError(f"Cannot read image {os.fspath(path)}: the file is empty.")
    with open(path, "rb") as file:
        try:
            with warnings.catch_warnings():
                # Between once and twice its limit Pillow only warns.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                image = Image.open(file)
            image.load()
            try:
                ImageOps.exif_transpose(image, in_place=True)
            except DECODING_ERRORS as error:
                logger.warning("Ignoring the broken EXIF data of %s: %s", os.fspath(path), error)
            return to_rgb(image)
        except DECODING_ERRORS as error:
            raise ValueError(f"Cannot read image {os.fspath(path)}: {error}") from error


def image_pixels(image: ImageInput) -> np.ndarray:
    """Returns what a path names, by :func:`read_image`, or a picture holds, by :func:`to_rgb`."""
    return read_image(image) if isinstance(image, (str, os.PathLike)) else to_rgb(image)


def to_rgb(image: np.ndarray | Image.Image) -> np.ndarray:
    """Converts a decoded picture to 8-bit RGB.

    Transparent pixels are laid over white, as viewers show them. 16-bit values are divided by 257,
    so that 65535 becomes 255.

    Args:
        image: a PIL image (taken as it is: its EXIF orientation is not applied, so that results
            align with its pixels), or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) in RGB(A)
            order, uint8 or uint16.

    Returns:
        (H, W, 3) uint8, RGB; a fresh, writable array.

    Raises:
        ValueError: another shape or type, or an empty image.
        TypeError: neither an array nor a PIL image.
    """
    if isinstance(image, Image.Image):
        return _pil_to_rgb(image)
    if not isinstance(image, np.ndarray):
        raise TypeError(f"Expected a numpy array or a PIL image, got {type(image).__name__}.")
    if image.dtype == np.uint16:
        half = _UINT16_TO_UINT8 // 2
        image = ((image.astype(np.uint32) + half) // _UINT16_TO_UINT8).astype(np.uint8)
    if image.dtype != np.uint8:
        raise ValueError(f"Image arrays must be uint8 or uint16, got {image.dtype}.")
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4):
        raise ValueError(
            f"Image arrays must be (H, W), (H, W, 3) or (H, W, 4), got shape {image.shape}."
        )
    if image.size == 0:
        raise ValueError(f"The image is empty: shape {image.shape}.")
    if image.shape[2] == 1:
        return np.repeat(image, 3, axis=2)
    if image.shape[2] == 4:
        return _over_white(Image.fromarray(np.ascontiguousarray(image)))
    return image.copy()


def _pil_to_rgb(image: Image.Image) -> np.ndarray:
    if 0 in image.size:
        raise ValueError(f"The image is empty: {image.width} x {image.height} pixels.")
    if image.mode.startswith("I"):
        # "I;16" and its byte orders; older Pillow opens 16-bit gray PNGs as 32-bit "I".
        values = np.asarray(image.convert("I"))
        if values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
            raise ValueError("32-bit integer images are read only if their values fit 16 bits.")
        return to_rgb(values.astype(np.uint16))
    if image.mode == "F":
        raise ValueError("floating-point images have no known range; convert them to 8 or 16 bits.")
    if image.mode in ("RGBA", "RGBa", "LA", "PA") or "transparency" in image.info:
        return _over_white(image.convert("RGBA"))
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _over_white(rgba: Image.Image) -> np.ndarray:
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return np.array(Image.alpha_composite(white, rgba).convert("RGB"))
