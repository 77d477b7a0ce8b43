"""The upsampling decoder blocks of CAT-Seg and SED, under the releases' names.

Shapes: B images, K classes, h x w cells, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DoubleConv(nn.Module):
    """Two 3 x 3 convolutions, each with group norm (16 channels to a group) and ReLU."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        groups = max(1, out_dim // 16)
        self.double_conv = nn.Sequential(
            nn.Conv2d(in_dim, out_dim, kernel_size=3, padding=1, bias=False),
            nn.GroupNorm(groups, out_dim),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_dim, out_dim, kernel_size=3, padding=1, bias=False),
            nn.GroupNorm(groups, out_dim),
            nn.ReLU(inplace=True),
        )

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Convolves the concatenation of maps, some of which all classes of an image share.

        Args:
            parts: (B, K, C_i, h, w) each, or (B, 1, C_i, h, w); the sum of C_i is ``in_dim``.

        Returns:
            (B, K, out_dim, h, w).
        """
        first, *rest = self.double_conv
        x = convolve_parts(first, parts)
        maps = x.flatten(0, 1)
        for layer in rest:
            maps = layer(maps)
        return maps.unflatten(0, x.shape[:2])


def convolve_parts(layer: nn.Conv2d, parts: Sequence[Tensor]) -> Tensor:
    """Convolves the concatenation of ``parts``, without a bias.

    A part that all classes of an image share is convolved once per image.

    Args:
        layer: of as many input channels as the parts have together.
        parts: (B, K or 1, C_i, h, w), the first of all K classes.

    Returns:
        (B, K, channels, h, w).
    """
    weights = layer.weight.split([part.shape[2] for part in parts], dim=1)
    total = None
    for part, weight in zip(parts, weights):
        out = F.conv2d(part.flatten(0, 1), weight, padding=layer.padding)
        out = out.unflatten(0, part.shape[:2])
        # In place, where gradients do not need what was there.
        total = out if total is None else total.add_(out)
    return total


def upsample(layer: nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """Applies a transposed convolution class by class, (B, K, C, h, w) to (B, K, C', 2 h, 2 w)."""
    return layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def classwise(layer: nn.Module, x: Tensor) -> Tensor:
    """Applies a layer with one output channel class by class, (B, K, C, h, w) to (B, K, h, w)."""
    return layer(x.flatten(0, 1)).squeeze(1).unflatten(0, x.shape[:2])


def channels_first(x: Tensor) -> Tensor:
    """Moves the channels, (B, K, h, w, C) to (B, K, C, h, w)."""
    return torch.movedim(x, -1, 2)


def channels_last(x: Tensor) -> Tensor:
    """Moves the channels, (B, K, C, h, w) to (B, K, h, w, C)."""
    return torch.movedim(x, 2, -1)
