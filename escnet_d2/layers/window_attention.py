"""Swin attention over windows of a map, guided by image features that all classes share.

Shapes: N maps (images x classes), B images, H x W patches, C channels, G guidance channels,
window of h x w patches with T = h w tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .feed_forward import FeedForward


class GuidedSwinBlock(nn.Module):
    """Pre-norm Swin block whose queries and keys also see an image feature map.

    The guidance does not depend on the class, so it is projected once per image and added, which
    equals the linear layer on the concatenation that CAT-Seg uses. No relative position bias.
    """

    def __init__(
        self,
        *,
        dim: int,
        guidance_dim: int,
        num_heads: int,
        window_size: int,
        shifted: bool,
        mlp_ratio: float,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.shifted = shifted
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.guidance_qk = nn.Linear(guidance_dim, 2 * dim, bias=False)
        self.out = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = FeedForward(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:
        """Attends within windows.

        Args:
            x: (B, K, H, W, C).
            guidance: (B, H, W, G), normalized.

        Returns:
            (B, K, H, W, C).
        """
        C = x.shape[-1]
        query_key, value = self.qkv(self.norm1(x)).split([2 * C, C], dim=-1)
        query_key = query_key + self.guidance_qk(guidance).unsqueeze(1)
        attended = windowed_attention(
            *query_key.split(C, dim=-1),
            value,
            num_heads=self.num_heads,
            window_size=self.window_size,
            shifted=self.shifted,
        )
        x = x + self.out(attended)
        return x + self.mlp(self.norm2(x))


def windowed_attention(
    query: Tensor, key: Tensor, value: Tensor, *, num_heads: int, window_size: int, shifted: bool
) -> Tensor:
    """Attends within windows of maps of any size, with several heads.

    Swin shifts the map cyclically, pads it to whole windows and masks what comes from elsewhere.
    What is left is attention within rectangles, the windows of a grid that the shift moves, cut off
    at the borders: each is attended on its own, without padding and mask.

    Args:
        query: (..., H, W, C).
        key: likewise.
        value: likewise.
        num_heads: divides C.
        window_size: patches on a side; smaller maps are one window, without a shift.
        shifted: whether the windows are shifted by half their size.

    Returns:
        (..., H, W, C).
    """
    rows, columns = (_spans(size, window_size, shifted) for size in query.shape[-3:-1])
    return torch.cat(
        [
            torch.cat(
                [
                    _attend(*(x[..., r, c, :] for x in (query, key, value)), num_heads)
                    for c in columns
                ],
                dim=-2,
            )
            for r in rows
        ],
        dim=-3,
    )


def _spans(extent: int, window_size: int, shifted: bool) -> list[slice]:
    """Cuts one axis at the borders of the windows."""
    first = window_size // 2 if shifted and window_size < extent else window_size
    edges = [0, *range(first, extent, window_size), extent]
    return [slice(low, high) for low, high in zip(edges, edges[1:])]


def _attend(query: Tensor, key: Tensor, value: Tensor, num_heads: int) -> Tensor:
    """Lets all patches of maps (..., h, w, C) see each other."""
    heads = [
        x.reshape(-1, x.shape[-3] * x.shape[-2], num_heads, x.shape[-1] // num_heads)
        for x in (query, key, value)
    ]
    out = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in heads))
    return out.transpose(1, 2).reshape(query.shape)
