"""Means inside masks: how masks reach the correlation.

Shapes: B images, K classes, H x W patches, M masks, C channels of the embedded correlation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .class_subsets import class_chunks


class MaskPooling(nn.Module):
    """Gives every class at every patch its mean over the masks that the patch lies in.

    A mask tells which patches belong together and nothing of their class: it pools what all
    classes have there. ``x + W mean[x, logit]`` with W zero at first, so that training starts from
    the correlation itself.
    """

    def __init__(self, dim: int) -> None:
        """Takes C."""
        super().__init__()
        self.projection = nn.Linear(dim + 1, dim)
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(
        self, x: Tensor, class_map: Tensor, masks: list[Tensor], chunk_size: int = 0
    ) -> Tensor:
        """Adds the means to the correlation.

        Args:
            x: embedded correlation, (B, K, H, W, C).
            class_map: class logits, (B, K, H, W).
            masks: of each image, (M, H, W) in [0, 1].
            chunk_size: classes at a time, 0 for all.

        Returns:
            (B, K, H, W, C).
        """
        values = torch.cat([x, class_map.unsqueeze(-1).to(x.dtype)], dim=-1)
        parts = []
        for chunk in class_chunks(x.shape[1], chunk_size):
            # The projection and the means commute, and the projection has fewer channels.
            projected = self.projection(values[:, chunk])
            pooled = [pool_inside(maps, own) for maps, own in zip(projected, masks)]
            parts.append(x[:, chunk] + torch.stack(pooled))
        return torch.cat(parts, dim=1)


def pool_inside(maps: Tensor, masks: Tensor) -> Tensor:
    """Averages maps inside masks, and each patch's averages over the masks that it lies in.

    Args:
        maps: (K, H, W, C).
        masks: (M, H, W) in [0, 1]; may be none.

    Returns:
        (K, H, W, C); fades to 0 where the masks sum to less than 1.
    """
    means, _ = inside_means(maps, masks)
    masks = masks.flatten(1).to(maps.dtype)
    cover = masks.sum(dim=0).clamp(min=1).unsqueeze(1)
    # (M, K C), which one product scatters over the patches of all classes.
    pooled = (masks.t() @ means.transpose(0, 1).flatten(1)) / cover
    return pooled.unflatten(1, means.shape[::2]).transpose(0, 1).view(maps.shape)


def inside_means(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Averages maps inside masks.

    Args:
        maps: (K, H, W, C).
        masks: (M, H, W) in [0, 1]; may be none.

    Returns:
        Means (K, M, C), and bool (M,): masks that are not empty, whose means are 0.
    """
    masks = masks.flatten(1).to(maps.dtype)
    area = masks.sum(dim=1, keepdim=True)
    sums = masks @ maps.flatten(1, 2).transpose(0, 1).flatten(1)  # (M, K C)
    means = (sums / area.clamp(min=_MIN_AREA)).unflatten(1, (len(maps), -1)).transpose(0, 1)
    return means, area.squeeze(1) > 0


# In patches; smaller masks count less.
_MIN_AREA = 0.5
