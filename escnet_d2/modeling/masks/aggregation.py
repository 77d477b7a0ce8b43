"""Merging the parts into which SAM cuts things (SAM-MI's shallow mask aggregation).

Shapes: M masks, C channels, H x W patches, h x w pixels or cells.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

# Share of the smaller mask that the larger one holds.
_MOST = 0.5


def mask_groups(masks: Tensor, features: Tensor, threshold: float) -> Tensor:
    """Says which masks are parts of one thing.

    Masks are neighbors where they touch or one holds most of the other. The two neighbors whose
    mean features are the most alike are joined, again and again. A group is a neighbor of whatever
    a member is, but as alike as its least alike member (complete linkage): without that, chains of
    masks would join different things, the more so the more masks there are.

    Args:
        masks: shares of cells, in [0, 1], (M, h, w); h and w multiples of H and W.
        features: of the patches, (C, H, W).
        threshold: smallest cosine of features that are alike; the image's mean is taken off first.

    Returns:
        Integers (M,): the first mask of the group that each belongs to.
    """
    if not len(masks):
        return torch.zeros(0, dtype=torch.long, device=masks.device)
    with torch.autocast(masks.device.type, enabled=False):
        means = _mean_features(F.adaptive_avg_pool2d(masks, features.shape[1:]), features)
        # Step by step, so on the CPU.
        alike = (means @ means.t()).cpu().numpy()
        neighbors = _neighbors(masks > 0.5).cpu().numpy()
    groups = np.arange(len(masks))
    while True:
        np.fill_diagonal(neighbors, False)
        pairs = np.where(neighbors, alike, -np.inf)
        one, other = sorted(np.unravel_index(pairs.argmax(), pairs.shape))
        if pairs[one, other] < threshold:
            return torch.from_numpy(groups).to(masks.device)
        groups[groups == other] = one
        alike[one] = alike[:, one] = np.minimum(alike[one], alike[other])
        neighbors[one] = neighbors[:, one] = neighbors[one] | neighbors[other]
        neighbors[other] = neighbors[:, other] = False


def merge_masks(masks: Tensor, groups: Tensor) -> Tensor:
    """Unites the masks of each group.

    Args:
        masks: (M, h, w), bool or shares.
        groups: integers (M,) of :func:`mask_groups`.

    Returns:
        One mask for each group, (M', h, w).
    """
    first, place = groups.unique(return_inverse=True)
    index = place.view(-1, 1, 1).expand_as(masks)
    united = masks.new_zeros(len(first), *masks.shape[1:], dtype=torch.uint8)
    if masks.dtype == torch.bool:
        return united.scatter_reduce(0, index, masks.byte(), "amax").bool()
    return united.to(masks.dtype).scatter_reduce(0, index, masks, "amax")


def _mean_features(shares: Tensor, features: Tensor) -> Tensor:
    """Unit mean features inside masks (M, H, W), (M, C), the mean over the image taken off."""
    flat = features.flatten(1).float()
    flat = flat - flat.mean(dim=1, keepdim=True)
    weights = shares.flatten(1).float()
    return F.normalize(weights @ flat.t(), dim=1)


def _neighbors(masks: Tensor) -> Tensor:
    """Tells which masks touch, or hold most of one another, bool (M, M)."""
    grown = F.max_pool2d(masks.float().unsqueeze(1), 3, stride=1, padding=1).flatten(1)
    flat = masks.float().flatten(1)
    overlap = flat @ flat.t()
    area = flat.sum(dim=1)
    smaller = torch.minimum(area[:, None], area[None, :]).clamp(min=1)
    reaches = grown @ flat.t()
    # Masks that overlap a little are rivals; those that only touch are neighbors.
    touches = (torch.minimum(reaches, reaches.t()) > 0) & (overlap == 0)
    return touches | (overlap > _MOST * smaller)
