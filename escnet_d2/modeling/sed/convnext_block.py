"""ConvNeXt blocks on class maps, under the names of SED's release.

Shapes: B images, K classes, h x w cells, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from escnet_d2.layers.feed_forward import gelu

_EPSILON = 1e-6


class ConvNextBlock(nn.Module):
    """Depthwise convolution, norm and a perceptron per cell, class by class, with a residual."""

    def __init__(self, dim: int, kernel_size: int, *, version: str) -> None:
        """Sizes of the block.

        Args:
            dim: C.
            kernel_size: odd.
            version: "V1", which scales the channels of the result, or "V2", which normalizes the
                hidden channels by their response over the map.

        Raises:
            ValueError: an even kernel.
        """
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"MODEL.SEM_SEG_HEAD.KERNEL_SIZE must be odd, got {kernel_size}.")
        self.dwconv = nn.Conv2d(
            dim, dim, kernel_size=kernel_size, padding=kernel_size // 2, groups=dim
        )
        self.norm = nn.LayerNorm(dim, eps=_EPSILON)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(torch.ones(dim)) if version == "V1" else None
        self.grn = _ResponseNorm(4 * dim) if version == "V2" else None

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, K, C, h, w) to the same shape."""
        maps = x.flatten(0, 1)
        out = self.pwconv1(self.norm(self.dwconv(maps).permute(0, 2, 3, 1)))
        out = gelu(out)
        if self.grn is not None:
            out = self.grn(out)
        out = self.pwconv2(out)
        if self.gamma is not None:
            out = self.gamma * out
        return x + out.permute(0, 3, 1, 2).view_as(x)


class _ResponseNorm(nn.Module):
    """Global response normalization (ConvNeXt V2), on (N, h, w, C)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, dim))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, dim))

    def forward(self, x: Tensor) -> Tensor:
        response = x.norm(dim=(1, 2), keepdim=True)
        response = response / (response.mean(dim=-1, keepdim=True) + _EPSILON)
        return x + self.gamma * (x * response) + self.beta
