"""Decoupled mask injection: what masks say, added to the correlation at low and high frequency.

Shapes: B images, K classes, C channels of the embedded correlation, H x W patches, M masks of an
image, h x w cells of the decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from escnet_d2.config import check_choice
from escnet_d2.layers import map_chunks
from escnet_d2.layers.mask_pooling import MaskPooling, inside_means, pool_inside

LOW = ("intra", "inter")
LOW_AT = ("input", "output")
HIGH = ("mask", "edge", "none")
# CLIP's temperature at the end of its training: cosines become logits.
_TEMPERATURE = 100.0


class MaskInjection(nn.Module):
    """Adds masks' context to the correlation, by layers that are zero at first.

    Training starts from the base model's answer exactly. Masks have no names and no order: every
    class reads the same masks, and an image without any keeps the base model's answer.
    """

    def __init__(
        self,
        *,
        dim: int,
        decoder_dims: Sequence[int],
        num_heads: int,
        low: Sequence[str],
        low_at: Sequence[str],
        high: str,
    ) -> None:
        """Builds the parts.

        Args:
            dim: C.
            decoder_dims: channels after each upsampling.
            num_heads: of the attention to masks.
            low: any of "intra" and "inter".
            low_at: "input" and "output" of the layers that refine the correlation, or one of them.
            high: "mask", "edge" or "none".

        Raises:
            ValueError: an unknown part; names the key.
        """
        super().__init__()
        for key, names, accepted in (("LOW", low, LOW), ("LOW_AT", low_at, LOW_AT)):
            if set(names) - set(accepted):
                raise ValueError(
                    f"MODEL.SAM_MI.{key} must name any of {', '.join(accepted)}, got {list(names)}."
                )
        check_choice("MODEL.SAM_MI.HIGH", high, HIGH)
        self.low = nn.ModuleDict(
            {place: _MaskContext(dim, num_heads, low) for place in (low_at if low else ())}
        )
        self.high = nn.ModuleList(
            _MaskDetail(channels, high) for channels in (decoder_dims if high != "none" else ())
        )

    def at_low(
        self, place: str, x: Tensor, correlation: Tensor, masks: list[Tensor], chunk_size: int = 0
    ) -> Tensor:
        """Adds the context of masks to the embedded correlation.

        Args:
            place: "input" or "output".
            x: (B, K, H, W, C).
            correlation: cosines, (B, P, K, H, W).
            masks: shares of cells of each image, (M, 4 H, 4 W).
            chunk_size: classes at a time, 0 for all.
        """
        if place not in self.low:
            return x
        logits = _TEMPERATURE * correlation.mean(dim=1)
        return self.low[place](x, logits, _at_size(masks, x.shape[2:4]), chunk_size)

    def at_high(self, level: int, maps: Tensor, masks: list[Tensor]) -> Tensor:
        """Adds detail to the maps after an upsampling.

        Args:
            level: 0 or 1.
            maps: (B, K, channels, h, w).
            masks: as of :meth:`at_low`.
        """
        if not self.high:
            return maps
        return self.high[level](maps, _at_size(masks, maps.shape[3:]))


class _MaskContext(nn.Module):
    """Means inside masks, and attention of patches to the means of all masks."""

    def __init__(self, dim: int, num_heads: int, parts: Sequence[str]) -> None:
        super().__init__()
        self.intra = MaskPooling(dim) if "intra" in parts else None
        self.inter = _MaskAttention(dim, num_heads) if "inter" in parts else None

    def forward(self, x: Tensor, logits: Tensor, masks: list[Tensor], chunk_size: int) -> Tensor:
        """Adds both to (B, K, H, W, C); logits (B, K, H, W), masks (M, H, W)."""
        out = x if self.intra is None else self.intra(x, logits, masks, chunk_size)
        if self.inter is None:
            return out
        return out + map_chunks(partial(self.inter, masks=masks), x, chunk_size)


class _MaskAttention(nn.Module):
    """Lets each patch of a class read the class's means inside all masks."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, masks: list[Tensor]) -> Tensor:
        """Returns what (B, K, H, W, C) reads of masks (M, H, W); 0 without any, before training."""
        x = self.norm(x)
        return self.out(torch.stack([self._read(maps, own) for maps, own in zip(x, masks)]))

    def _read(self, maps: Tensor, masks: Tensor) -> Tensor:
        """Attention of one image's maps (K, H, W, C)."""
        tokens, is_there = inside_means(maps, masks)  # (K, M, C), (M,)
        key, value = self._heads(self.key_value(tokens)).chunk(2, dim=3)
        # A token of zeros takes the attention where no mask is.
        key, value = F.pad(key, (0, 0, 0, 1)), F.pad(value, (0, 0, 0, 1))
        read = F.scaled_dot_product_attention(
            self._heads(self.query(maps.flatten(1, 2))),
            key,
            value,
            attn_mask=F.pad(is_there, (0, 1), value=True).view(1, 1, 1, -1),
        )
        return read.transpose(1, 2).flatten(2).view(maps.shape)

    def _heads(self, x: Tensor) -> Tensor:
        """(K, n, channels) to (K, heads, n, channels of a head)."""
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


class _MaskDetail(nn.Module):
    """Adds high frequencies that masks tell of, through a 1 x 1 convolution that is zero at first.

    "mask" is what the mean inside the masks leaves over, where there are masks; "edge" is the map
    itself along the borders of masks.
    """

    def __init__(self, dim: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.project = nn.Linear(dim, dim)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, maps: Tensor, masks: list[Tensor]) -> Tensor:
        """Adds detail to (B, K, C, h, w); masks (M, h, w) of each image."""
        detail = torch.stack([self._detail(own, m) for own, m in zip(maps.movedim(2, -1), masks)])
        return maps + self.project(detail).movedim(-1, 2)

    def _detail(self, maps: Tensor, masks: Tensor) -> Tensor:
        """Detail of one image's maps (K, h, w, C)."""
        if self.kind == "edge":
            return maps * _edges(masks).to(maps.dtype).unsqueeze(-1)
        cover = masks.sum(dim=0).clamp(max=1).to(maps.dtype).unsqueeze(-1)
        return cover * maps - pool_inside(maps, masks)


def _edges(masks: Tensor) -> Tensor:
    """Borders of masks (M, h, w): 1 where a cell's neighbors lie on both sides, (h, w)."""
    if not len(masks):
        return masks.new_zeros(masks.shape[1:])
    high = F.max_pool2d(masks.unsqueeze(1), 3, stride=1, padding=1)
    low = -F.max_pool2d(-masks.unsqueeze(1), 3, stride=1, padding=1)
    return (high - low).squeeze(1).amax(dim=0)


def _at_size(masks: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
    """Averages shares (M, 4 H, 4 W) over coarser cells."""
    return [
        F.adaptive_avg_pool2d(own, tuple(size)) if len(own) else own.new_zeros(0, *size)
        for own in masks
    ]
