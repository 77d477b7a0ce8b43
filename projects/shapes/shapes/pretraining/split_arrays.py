"""A split of the data set ``shapes`` in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from escnet_d2.io import read_image, read_label_map


def read_images(folder: Path) -> np.ndarray:
    """All pictures of a split, uint8 (N, H, W, 3), RGB, in the order of their names."""
    return np.stack([read_image(path) for path in _files(folder / "images")])


def read_maps(folder: Path) -> np.ndarray:
    """All label or instance maps of a folder, uint8 (N, H, W), in the order of their names."""
    return np.stack([read_label_map(path).astype(np.uint8) for path in _files(folder)])


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png"))
