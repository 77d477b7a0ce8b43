"""Masks that are broken on purpose, to see what a model makes of bad ones."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# Of the side of a mask's box.
_SHIFT = (0.25, 0.75)


def break_masks(masks: Tensor, share: float) -> Tensor:
    """Breaks a share of the masks, each in one of four ways drawn at random.

    It is shifted by a quarter to three quarters of its size, merged with another mask, cut in two
    by a line through its center, or dropped. The same masks always break in the same way.

    Args:
        masks: bool (M, h, w).
        share: in [0, 1], probability that a mask is broken.

    Returns:
        Bool (M', h, w).
    """
    if not share or not len(masks):
        return masks
    random = np.random.default_rng(int(masks.sum()))
    broken: list[Tensor] = []
    for mask in masks:
        if random.random() >= share or not mask.any():
            broken.append(mask)
            continue
        way = random.integers(4)
        if way == 0:
            broken.append(_shifted(mask, random))
        elif way == 1:
            broken.append(mask | masks[random.integers(len(masks))])
        elif way == 2:
            broken += _split(mask, random)
    return torch.stack(broken) if broken else masks[:0]


def _shifted(mask: Tensor, random: np.random.Generator) -> Tensor:
    """Moves a mask in a random direction; what leaves the image is lost."""
    rows, columns = mask.nonzero().unbind(1)
    moved = []
    for places in (rows, columns):
        extent = int(places.max() - places.min()) + 1
        amount = max(1, round(extent * random.uniform(*_SHIFT)))
        moved.append(places + amount * random.choice([-1, 1]))
    height, width = mask.shape
    inside = (moved[0] >= 0) & (moved[0] < height) & (moved[1] >= 0) & (moved[1] < width)
    shifted = torch.zeros_like(mask)
    shifted[moved[0][inside], moved[1][inside]] = True
    return shifted


def _split(mask: Tensor, random: np.random.Generator) -> list[Tensor]:
    """Cuts a mask in two by a line of any direction through its center."""
    rows, columns = mask.nonzero().unbind(1)
    angle = random.uniform(0, np.pi)
    side = np.cos(angle) * (columns - columns.float().mean())
    side = side + np.sin(angle) * (rows - rows.float().mean())
    first = torch.zeros_like(mask)
    first[rows[side > 0], columns[side > 0]] = True
    return [first, mask & ~first]
