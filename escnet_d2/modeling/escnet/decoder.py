"""Mask prediction decoder: two upsamplings with CLIP's intermediate features as skips.

Shapes: B images, K classes, H x W patches, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from escnet_d2.layers import map_chunks


class UpBlock(nn.Module):
    """Bilinear x 2, join with a skip, two 3 x 3 convolutions.

    The skip is the same for all classes of an image: it is convolved once per image and added,
    which equals a convolution of the concatenation.
    """

    def __init__(self, *, in_dim: int, skip_width: int, skip_dim: int, out_dim: int) -> None:
        super().__init__()
        self.skip_projection = nn.Conv2d(skip_width, skip_dim, kernel_size=1)
        self.skip_conv = nn.Conv2d(skip_dim, out_dim, kernel_size=3, padding=1, bias=False)
        self.conv1 = nn.Conv2d(in_dim, out_dim, kernel_size=3, padding=1)
        self.norm1 = nn.GroupNorm(_groups(out_dim), out_dim)
        self.conv2 = nn.Conv2d(out_dim, out_dim, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(_groups(out_dim), out_dim)

    def embed_skip(self, skip: Tensor, size: tuple[int, int]) -> Tensor:
        """Projects a skip (B, skip_width, H, W) to (B, out_dim, *size), once per image."""
        return self.skip_conv(_resize(self.skip_projection(skip), size))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Upsamples class maps.

        Args:
            x: (B k, in_dim, h, w), the classes of one image side by side.
            skip: (B, out_dim, 2 h, 2 w) of :meth:`embed_skip`.

        Returns:
            (B k, out_dim, 2 h, 2 w).
        """
        x = self.conv1(_resize(x, skip.shape[-2:]))
        # In place, where gradients do not need what was there.
        x.unflatten(0, (skip.shape[0], -1)).add_(skip.unsqueeze(1))
        x = F.relu(self.norm1(x), inplace=True)
        return F.relu(self.norm2(self.conv2(x)), inplace=True)


class MaskDecoder(nn.Module):
    """Embedded correlation to one logit map per class at four times the grid (24 -> 48 -> 96)."""

    def __init__(
        self,
        *,
        in_dim: int,
        skip_width: int,
        dims: Sequence[int] = (64, 32),
        skip_dims: Sequence[int] = (32, 16),
    ) -> None:
        """Sizes of the decoder.

        Args:
            in_dim: channels of the embedded correlation.
            skip_width: channels of CLIP's intermediate features.
            dims: channels after each upsampling.
            skip_dims: channels of the projected skip of each upsampling.

        Raises:
            ValueError: not two of each.
        """
        super().__init__()
        if len(dims) != 2 or len(skip_dims) != 2:
            raise ValueError(
                "MODEL.ESCNET.DECODER_DIMS and SKIP_DIMS need two values each, "
                f"got {list(dims)} and {list(skip_dims)}."
            )
        in_dims = (in_dim, dims[0])
        self.up_blocks = nn.ModuleList(
            UpBlock(in_dim=i, skip_width=skip_width, skip_dim=s, out_dim=o)
            for i, s, o in zip(in_dims, skip_dims, dims)
        )
        self.head = nn.Conv2d(dims[1], 1, kernel_size=3, padding=1)

    def forward(self, x: Tensor, skips: Sequence[Tensor], chunk_size: int = 0) -> Tensor:
        """Predicts class logits.

        Args:
            x: embedded correlation, (B, K, H, W, C).
            skips: CLIP's intermediate features, shallow to deep, each (B, width, H, W); the deep
                one joins first.
            chunk_size: classes at a time, 0 for all.

        Returns:
            Logits (B, K, 4 H, 4 W).
        """
        H, W = x.shape[2:4]
        sizes = ((2 * H, 2 * W), (4 * H, 4 * W))
        embedded = [
            block.embed_skip(skip, size)
            for block, skip, size in zip(self.up_blocks, reversed(skips), sizes)
        ]

        def decode(part: Tensor) -> Tensor:
            maps = part.flatten(0, 1).permute(0, 3, 1, 2)
            for block, skip in zip(self.up_blocks, embedded):
                maps = block(maps, skip)
            return self.head(maps).squeeze(1).unflatten(0, part.shape[:2])

        return map_chunks(decode, x, chunk_size)


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def _groups(channels: int) -> int:
    """Groups of 16 channels, or one group where they do not divide."""
    return channels // 16 if channels % 16 == 0 else 1
