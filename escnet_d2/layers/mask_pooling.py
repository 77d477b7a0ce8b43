"""Means inside masks: how masks reach the correlation.

Shapes: B images, K classes, H x W patches, M masks, C channels of the embedded correlation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
        return torch.stack([self._pool(*image, chunk_size) for image in zip(x, class_map, masks)])

    def _pool(self, x: Tensor, class_map: Tensor, masks: Tensor, chunk_size: int) -> Tensor:
        """Adds the means to the correlation of one image, (K, H, W, C)."""
        gather, scatter = pooling_weights(masks.to(x.dtype))
        # Of masks with less than _MIN_AREA a part of the bias, as of all else.
        bias = gather.sum(dim=1, keepdim=True) * self.projection.bias
        parts = []
        for chunk in class_chunks(len(x), chunk_size):
            own = x[chunk].flatten(1, 2)
            logits = F.linear(class_map[chunk].flatten(1).to(x.dtype), gather)
            means = torch.cat([_for_each(gather, own), logits.unsqueeze(2)], dim=2)
            # There are fewer masks than patches to project.
            projected = F.linear(means, self.projection.weight) + bias
            # In place, where gradients do not need what was there.
            parts.append(_for_each(scatter, projected).add_(own))
        return torch.cat(parts).view(x.shape)


def pool_inside(maps: Tensor, masks: Tensor) -> Tensor:
    """Averages maps inside masks, and each patch's averages over the masks that it lies in.

    Args:
        maps: (K, H, W, C).
        masks: (M, H, W) in [0, 1]; may be none.

    Returns:
        (K, H, W, C); fades to 0 where the masks sum to less than 1.
    """
    gather, scatter = pooling_weights(masks.to(maps.dtype))
    return _for_each(scatter, _for_each(gather, maps.flatten(1, 2))).view(maps.shape)


def inside_means(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Averages maps inside masks.

    Args:
        maps: (K, H, W, C).
        masks: (M, H, W) in [0, 1]; may be none.

    Returns:
        Means (K, M, C), and bool (M,): masks that are not empty, whose means are 0.
    """
    gather, _ = pooling_weights(masks.to(maps.dtype))
    return _for_each(gather, maps.flatten(1, 2)), masks.flatten(1).any(dim=1)


# In patches; smaller masks count less.
_MIN_AREA = 0.5


def pooling_weights(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Makes means over masks products of matrices.

    Args:
        masks: (M, H, W) in [0, 1].

    Returns:
        Weights of patches in the means of masks, (M, H W), and of masks in patches, (H W, M).
    """
    masks = masks.flatten(1)
    gather = masks / masks.sum(dim=1, keepdim=True).clamp(min=_MIN_AREA)
    return gather, masks.t() / masks.sum(dim=0).clamp(min=1).unsqueeze(1)


def _for_each(weights: Tensor, maps: Tensor) -> Tensor:
    """Multiplies weights (n, m) with each map (K, m, C): (K, n, C)."""
    return torch.bmm(weights.expand(len(maps), -1, -1), maps)
