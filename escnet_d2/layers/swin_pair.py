"""The pair of guided Swin blocks of CAT-Seg's cost aggregation, under the release's names.

Shapes: B images, K classes, H x W patches, C channels, G guidance channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .feed_forward import FeedForward
from .guided_linear import GuidedProjections
from .window_attention import cut_windows

# What the releases add to the logits of pairs of patches that may not see each other.
_MASKED = -100.0


class SwinPair(nn.Module):
    """A plain and a shifted Swin block; guidance joins their queries and keys."""

    def __init__(
        self,
        *,
        dim: int,
        guidance_dim: int,
        grid: tuple[int, int],
        num_heads: int,
        window_size: int,
    ) -> None:
        """Sizes of the blocks.

        Args:
            dim: C.
            guidance_dim: G; 0 for blocks without guidance.
            grid: (H, W) that the checkpoint's masks are for; other grids work as well.
            num_heads: divides C.
            window_size: patches on a side of a window.
        """
        super().__init__()
        self.block_1, self.block_2 = (
            _SwinBlock(dim, guidance_dim, grid, num_heads, window_size, shifted=shifted)
            for shifted in (False, True)
        )
        self.guidance_norm = nn.LayerNorm(guidance_dim) if guidance_dim else None

    def forward(self, x: Tensor, guidance: Tensor | None = None) -> Tensor:
        """Attends within windows, class by class.

        Args:
            x: (B, K, H, W, C).
            guidance: (B, H, W, G), the same for all classes of an image.

        Returns:
            (B, K, H, W, C).
        """
        if guidance is not None:
            guidance = self.guidance_norm(guidance).unsqueeze(1)
        return self.block_2(self.block_1(x, guidance), guidance)


class _SwinBlock(nn.Module):
    def __init__(
        self,
        dim: int,
        guidance_dim: int,
        grid: tuple[int, int],
        num_heads: int,
        window_size: int,
        *,
        shifted: bool,
    ) -> None:
        super().__init__()
        # The release leaves the shift out where one side of the grid is a single window.
        self.shifted = shifted and min(grid) > window_size
        self.window_size = min(window_size, *grid)
        self.norm1 = nn.LayerNorm(dim)
        self.num_heads = num_heads
        self.attn = GuidedProjections(dim, guidance_dim)
        self.attn.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = FeedForward(dim, 4 * dim)
        # The release's checkpoints hold the mask, which follows from the sizes: it is kept so that
        # names agree, and computed again for the grid at hand.
        mask = None
        if self.shifted:
            mask = _shifted_mask(grid, self.window_size)
        self.register_buffer("attn_mask", mask)

    def forward(self, x: Tensor, guidance: Tensor | None) -> Tensor:
        windows = cut_windows(
            *x.shape[2:4], self.window_size, shifted=self.shifted, device=x.device
        )
        if guidance is not None:
            guidance = windows.sort(guidance)
        projected = self.attn(windows.sort(self.norm1(x)), guidance)
        attended = windows.attend(*projected, self.num_heads)
        x = x + windows.restore(self.attn.proj(attended))
        return x + self.mlp(self.norm2(x))


def _shifted_mask(grid: tuple[int, int], window_size: int) -> Tensor:
    """Returns the release's mask of shifted windows, (windows, T, T) of T patches each.

    After the cyclic shift the last window of an axis holds patches from opposite borders, which may
    not see each other.
    """
    pieces = []
    for extent in grid:
        place = torch.arange(extent)
        # The last window's two halves are pieces of their own.
        low, high = extent - window_size, extent - window_size // 2
        pieces.append((place >= low).long() + (place >= high).long())
    piece = 3 * pieces[0][:, None] + pieces[1]
    windows = piece.unfold(0, window_size, window_size).unfold(1, window_size, window_size)
    piece = windows.reshape(-1, window_size**2)
    return _MASKED * (piece[:, :, None] != piece[:, None, :]).float()
