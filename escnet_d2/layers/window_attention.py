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
        B, K, H, W, C = x.shape
        query_key, value = self.qkv(self.norm1(x)).split([2 * C, C], dim=-1)
        query_key = query_key + self.guidance_qk(guidance).unsqueeze(1)
        attended = windowed_attention(
            torch.cat([query_key, value], dim=-1).reshape(B * K, H, W, 3 * C),
            num_heads=self.num_heads,
            window_size=self.window_size,
            shifted=self.shifted,
        )
        x = x + self.out(attended.reshape(B, K, H, W, C))
        return x + self.mlp(self.norm2(x))


def windowed_attention(qkv: Tensor, *, num_heads: int, window_size: int, shifted: bool) -> Tensor:
    """Attends within windows of maps of any size, with several heads.

    Args:
        qkv: queries, keys and values side by side, (N, H, W, 3 C).
        num_heads: divides C.
        window_size: patches on a side; smaller maps are one window, without a shift.
        shifted: whether the windows are shifted by half their size.

    Returns:
        (N, H, W, C).
    """
    N, H, W, channels = qkv.shape
    # A grid no larger than the window is one window, and needs no shift.
    h, w = min(window_size, H), min(window_size, W)
    shift = tuple(
        size // 2 if shifted and size < extent else 0 for size, extent in ((h, H), (w, W))
    )
    pad_h, pad_w = -H % h, -W % w
    qkv = F.pad(qkv, (0, 0, 0, pad_w, 0, pad_h))
    if any(shift):
        qkv = torch.roll(qkv, (-shift[0], -shift[1]), dims=(1, 2))
    rows, columns = (H + pad_h) // h, (W + pad_w) // w
    head_dim = channels // 3 // num_heads
    # One batch index per window and one "head" per map and head: the mask, which differs by window
    # only, then broadcasts.
    windows = qkv.view(N, rows, h, columns, w, 3, num_heads, head_dim)
    windows = windows.permute(5, 1, 3, 0, 6, 2, 4, 7)
    query, key, value = windows.reshape(3, rows * columns, N * num_heads, h * w, head_dim)
    mask = None
    if any(shift) or pad_h or pad_w:
        mask = window_mask(H, W, (h, w), shift, qkv.device)
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    out = out.view(rows, columns, N, num_heads, h, w, head_dim)
    out = out.permute(2, 0, 4, 1, 5, 3, 6).reshape(N, rows * h, columns * w, -1)
    if any(shift):
        out = torch.roll(out, shift, dims=(1, 2))
    return out[:, :H, :W]


def window_mask(
    H: int,
    W: int,
    window: tuple[int, int],
    shift: tuple[int, int],
    device: torch.device | None = None,
) -> Tensor:
    """Tells of any two tokens of a window if they see each other: bool (windows, 1, T, T).

    After the cyclic shift a window can hold patches from opposite borders, and padding; only
    patches of the same piece of the map see each other (padding sees padding).
    """
    h, w = window
    row_piece = _pieces(H, h, shift[0], device)
    column_piece = _pieces(W, w, shift[1], device)
    piece = row_piece.unsqueeze(1) * 3 + column_piece
    piece = piece.view(len(row_piece) // h, h, len(column_piece) // w, w)
    piece = piece.permute(0, 2, 1, 3).reshape(-1, 1, h * w)
    return piece.unsqueeze(3) == piece.unsqueeze(2)


def _pieces(extent: int, window: int, shift: int, device: torch.device) -> Tensor:
    """Numbers the piece of each position along an axis: 0 body, 1 wrapped, 2 padding."""
    padded = extent + (-extent % window)
    source = (torch.arange(padded, device=device) + shift) % padded
    wrapped = (torch.arange(padded, device=device) + shift >= padded).long()
    return torch.where(source >= extent, torch.full_like(source, 2), wrapped)
