"""One colour per class, the same in every picture, file and run."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

MAX_CLASSES = 65535
BACKGROUND_COLOR = (128, 128, 128)

# Levels of each channel: fine enough that MAX_CLASSES of their colours are within the limits below.
_LEVELS = 52
# The first colours are chosen one by one, each as far as possible from all before it.
_NUM_CHOSEN = 256
# Every third level takes part in that choice, which is quadratic.
_CHOICE_STEP = 3
# CIELAB: greys are the background's; near-black, near-white and glaring colours hide the photo.
_LIGHTNESS = (40.0, 90.0)
_CHROMA = (25.0, 95.0)
# Step through the remaining colours; a prime, so that it visits them all.
_STRIDE = 40503 * 2 + 1


def class_colors(num_classes: int, *, background: int | None = None) -> np.ndarray:
    """Colours of the classes.

    A class's colour depends on its index only, not on how many classes there are. The first 256 are
    spread over CIELAB as evenly as possible; all are distinct, none is grey, black or white.

    Args:
        num_classes: K, 1 to 65535.
        background: index of a class that is shown in grey (128, 128, 128) instead.

    Returns:
        (K, 3) uint8, RGB.

    Raises:
        ValueError: K or ``background`` out of range.
    """
    if not 1 <= num_classes <= MAX_CLASSES:
        raise ValueError(f"num_classes must be 1 to {MAX_CLASSES}, got {num_classes}.")
    colors = _all_colors()[:num_classes].copy()
    if background is not None:
        if not 0 <= background < num_classes:
            raise ValueError(f"background must be 0 to {num_classes - 1}, got {background}.")
        colors[background] = BACKGROUND_COLOR
    return colors


@lru_cache(maxsize=1)
def _all_colors() -> np.ndarray:
    """(MAX_CLASSES, 3) uint8: the far-apart ones first."""
    levels = np.round(np.linspace(0, 255, _LEVELS)).astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _to_lab(grid)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    suitable = _within(lab[:, 0], _LIGHTNESS) & _within(chroma, _CHROMA)
    coarse = np.isin(grid, levels[::_CHOICE_STEP]).all(axis=1)

    candidates = np.flatnonzero(suitable & coarse)
    background_lab = _to_lab(np.array([BACKGROUND_COLOR], np.uint8))[0]
    chosen = candidates[_farthest_first(lab[candidates], background_lab, _NUM_CHOSEN)]
    rest = np.setdiff1d(np.flatnonzero(suitable), chosen)
    rest = rest[np.arange(len(rest)) * _STRIDE % len(rest)]
    return grid[np.concatenate([chosen, rest])[:MAX_CLASSES]]


def _within(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    return (values >= limits[0]) & (values <= limits[1])


def _farthest_first(points: np.ndarray, start: np.ndarray, count: int) -> np.ndarray:
    """Indices of ``count`` points, each the farthest from ``start`` and those before it."""
    distances = ((points - start) ** 2).sum(axis=1)
    chosen = np.empty(count, np.int64)
    for position in range(count):
        chosen[position] = distances.argmax()
        to_new = ((points - points[chosen[position]]) ** 2).sum(axis=1)
        distances = np.minimum(distances, to_new)
    return chosen


def _to_lab(rgb: np.ndarray) -> np.ndarray:
    """SRGB (N, 3) uint8 to CIELAB (D65) (N, 3), where distance is near to how eyes judge it."""
    encoded = rgb / 255.0
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    # Rows of the matrix sum to the white point.
    ratio = linear @ to_xyz.T / to_xyz.sum(axis=1)
    root = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = root.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)
