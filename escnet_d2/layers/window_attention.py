"""Swin attention over windows of a map, guided by image features that all classes share.

Shapes: N maps (images x classes), B images, H x W patches, C channels, G guidance channels,
window of h x w patches with T = h w tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

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

    def embed_guidance(self, guidance: Tensor) -> tuple[Windows, Tensor]:
        """Cuts the windows, and projects normalized guidance (B, H, W, G), once per image."""
        windows = cut_windows(
            *guidance.shape[1:3], self.window_size, shifted=self.shifted, device=guidance.device
        )
        return windows, windows.sort(self.guidance_qk(guidance).unsqueeze(1))

    def forward(self, x: Tensor, windows: Windows, guidance: Tensor) -> Tensor:
        """Attends within windows.

        Args:
            x: any classes, (B, k, H, W, C).
            windows: of :meth:`embed_guidance`, as is ``guidance``.
            guidance: (B, 1, H W, 2 C).

        Returns:
            (B, k, H, W, C).
        """
        C = x.shape[-1]
        query_key, value = self.qkv(windows.sort(self.norm1(x))).split([2 * C, C], dim=-1)
        query, key = (query_key + guidance).split(C, dim=-1)
        attended = windows.attend(query, key, value, self.num_heads)
        x = x + windows.restore(self.out(attended))
        return x + self.mlp(self.norm2(x))


@dataclass(frozen=True)
class Windows:
    """The patches of a map, window by window, those of equal size side by side.

    Attributes:
        height: H.
        width: W.
        order: place in the map of each sorted patch, (H W,).
        inverse: place in that order of each patch of the map, (H W,).
        groups: windows of one size, and their patches: (number, T).
    """

    height: int
    width: int
    order: Tensor
    inverse: Tensor
    groups: list[tuple[int, int]]

    def sort(self, x: Tensor) -> Tensor:
        """Puts the patches of maps in order, (B, K, H, W, C) to (B, K, H W, C)."""
        return x.flatten(2, 3).index_select(2, self.order)

    def restore(self, x: Tensor) -> Tensor:
        """Undoes :meth:`sort`."""
        return x.index_select(2, self.inverse).unflatten(2, (self.height, self.width))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, num_heads: int) -> Tensor:
        """Lets sorted patches, (B, K, H W, C) each, see those of their window."""
        shape = query.shape
        sizes = [number * tokens for number, tokens in self.groups]
        parts = zip(*(x.flatten(0, 1).split(sizes, dim=1) for x in (query, key, value)))
        outs = []
        for (number, tokens), part in zip(self.groups, parts):
            heads = (
                x.reshape(-1, tokens, num_heads, x.shape[-1] // num_heads).transpose(1, 2)
                for x in part
            )
            out = F.scaled_dot_product_attention(*heads).transpose(1, 2)
            outs.append(out.reshape(-1, number * tokens, shape[-1]))
        return torch.cat(outs, dim=1).view(shape)


def cut_windows(
    height: int, width: int, window_size: int, *, shifted: bool, device: torch.device
) -> Windows:
    """Cuts a map of any size into windows.

    Swin shifts the map cyclically, pads it to whole windows and masks what comes from elsewhere.
    What is left is attention within rectangles, the windows of a grid that the shift moves, cut off
    at the borders: each is attended on its own, without padding and mask.

    Args:
        height: H.
        width: W.
        window_size: patches on a side; smaller maps are one window, without a shift.
        shifted: whether the windows are shifted by half their size.
        device: of the order.
    """
    cells = torch.arange(height * width, device=device).view(height, width)
    rows, columns = (_spans(size, window_size, shifted) for size in (height, width))
    windows = sorted((cells[r, c].flatten() for r in rows for c in columns), key=len)
    groups = [(len(list(same)), tokens) for tokens, same in groupby(windows, key=len)]
    order = torch.cat(windows)
    return Windows(height, width, order, order.argsort(), groups)


def _spans(extent: int, window_size: int, shifted: bool) -> list[slice]:
    """Cuts one axis at the borders of the windows."""
    first = window_size // 2 if shifted and window_size < extent else window_size
    edges = [0, *range(first, extent, window_size), extent]
    return [slice(low, high) for low, high in zip(edges, edges[1:])]
