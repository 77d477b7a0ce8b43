"""SED's gradual fusion decoder and its early rejection of categories (SED sections 3.2, 3.3).

Shapes: B images, K classes (k after rejection), P templates, H x W cells of the last stage, D
channels of CLIP's shared space, C channels of the class maps, G_t text guidance channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from escnet_d2.config import check_choice
from escnet_d2.layers import class_chunks, image_text_correlation, map_chunks
from escnet_d2.layers.class_transformer import ClassTransformer
from escnet_d2.layers.guided_upsampling import (
    DoubleConv,
    channels_first,
    channels_last,
    classwise,
    upsample,
)
from escnet_d2.layers.swin_pair import SwinPair

from .convnext_block import ConvNextBlock

_NUM_LEVELS = 3


class GradualDecoder(nn.Module):
    """Correlation maps to class logits at eight times the grid.

    Three levels refine the class maps in space and over the classes and double their size, each
    joined by a stage of the image tower and by the upsampled correlation. A head on the input of
    each level predicts the classes as well: for the training, and to drop classes early.
    """

    def __init__(
        self,
        *,
        num_templates: int,
        text_dim: int,
        decoder_dims: Sequence[int],
        skip_dims: Sequence[int],
        skip_guidance_dims: Sequence[int],
        hidden_dim: int,
        make_swin_pair: Callable[..., SwinPair],
        make_attention: Callable[..., ClassTransformer],
        grid: tuple[int, int],
        block_type: str,
        kernel_sizes: Sequence[int],
        class_chunk_size: int = 0,
    ) -> None:
        """Sizes; see the keys of MODEL.SEM_SEG_HEAD.

        Args:
            num_templates: P.
            text_dim: D, or 0 for attention over the classes without text guidance.
            decoder_dims: channels after each level.
            skip_dims: channels of the stages at strides 16, 8 and 4.
            skip_guidance_dims: channels of the projected stages, and of the correlation that joins
                at the same level.
            hidden_dim: C of the first level.
            make_swin_pair: of channels and grid.
            make_attention: over the classes, of channels.
            grid: (H, W).
            block_type: what refines in space: "V1" or "V2" of ConvNeXt's blocks, or "Swin".
            kernel_sizes: of ConvNeXt's blocks, by level.
            class_chunk_size: classes at a time, in testing.

        Raises:
            ValueError: numbers that do not fit together, or another block type.
        """
        super().__init__()
        sizes = (decoder_dims, skip_dims, skip_guidance_dims, kernel_sizes)
        if any(len(size) != _NUM_LEVELS for size in sizes):
            raise ValueError(
                "MODEL.SEM_SEG_HEAD.DECODER_DIMS, DECODER_GUIDANCE_DIMS, "
                "DECODER_GUIDANCE_PROJ_DIMS and KERNEL_SIZE of SED need three values each, got "
                f"{', '.join(str(list(size)) for size in sizes)}."
            )
        check_choice("MODEL.SEM_SEG_HEAD.CNEXT_TYPE", block_type, ("V1", "V2", "Swin"))
        dims = (hidden_dim, *decoder_dims)
        self.conv1 = nn.Conv2d(num_templates, hidden_dim, kernel_size=7, padding=3)
        self.text_guidance_projection = (
            nn.ModuleList(
                nn.Sequential(nn.Linear(text_dim, dim), nn.ReLU()) for dim in dims[:_NUM_LEVELS]
            )
            if text_dim
            else None
        )
        self.decoder_guidance_projection = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, kernel_size=3, padding=1), nn.ReLU())
            for i, o in zip(skip_dims, skip_guidance_dims)
        )
        correlation_dims = (num_templates, *skip_guidance_dims)
        self.decoder_corr_guidance_projection = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(i, o, kernel_size=2, stride=2), nn.ReLU())
            for i, o in zip(correlation_dims, skip_guidance_dims)
        )
        levels = [
            DecoderLevel(
                in_dim=dims[level],
                out_dim=dims[level + 1],
                skip_dim=skip_guidance_dims[level],
                make_block=(
                    partial(
                        make_swin_pair, guidance_dim=0, grid=tuple(side * 2**level for side in grid)
                    )
                    if block_type == "Swin"
                    else partial(ConvNextBlock, kernel_size=kernel_sizes[level], version=block_type)
                ),
                make_attention=partial(make_attention, text_dim=dims[level] if text_dim else 0),
                class_chunk_size=class_chunk_size,
            )
            for level in range(_NUM_LEVELS)
        ]
        self.decoder1, self.decoder2, self.decoder3 = levels
        heads = [nn.Conv2d(dim, 1, kernel_size=3, padding=1) for dim in dims]
        self.head0, self.head1, self.head2, self.head = heads

    def forward(
        self, image: Tensor, text: Tensor, skips: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Predicts class logits, and in training those of the heads on the input of each level.

        Args:
            image: dense features of CLIP, (B, D, H, W).
            text: text embeddings, (K, P, D).
            skips: stages at strides 16, 8 and 4: (B, skip_dims[i], 2 H, 2 W) and so on.

        Returns:
            (B, K, 8 H, 8 W), and (B, K, H, W) to (B, K, 4 H, 4 W), in testing none. No gradient
            flows from the latter into what they are read from.
        """
        x, correlation, text_guidance, skips = self._start(image, text, skips)
        early = []
        for level, head in enumerate(self._early_heads):
            if self.training:
                early.append(classwise(head, x.detach()))
            x, correlation = self._run(level, x, skips[level], correlation, text_guidance[level])
        return x, early

    def forward_rejecting(
        self, image: Tensor, text: Tensor, skips: Sequence[Tensor], top_k: int
    ) -> Tensor:
        """Predicts class logits, dropping classes at each level; arguments as :meth:`forward`.

        A class goes on where the level's head puts it among the ``top_k`` of some cell.

        Returns:
            (B, K, 8 H, 8 W); minus infinity for classes that were dropped.
        """
        parts = [
            self._reject_in_one(
                image[index : index + 1], text, [s[index : index + 1] for s in skips], top_k
            )
            for index in range(len(image))
        ]
        return torch.cat(parts)

    def _reject_in_one(
        self, image: Tensor, text: Tensor, skips: Sequence[Tensor], top_k: int
    ) -> Tensor:
        x, correlation, text_guidance, skips = self._start(image, text, skips)
        num_classes = x.shape[1]
        kept = torch.arange(num_classes, device=x.device)
        for level, head in enumerate(self._early_heads):
            ranked = classwise(head, x)[0].topk(min(top_k, x.shape[1]), dim=0).indices
            going_on = ranked.unique()
            kept = kept[going_on]
            x, correlation = x[:, going_on], correlation[:, going_on]
            guidance = text_guidance[level]
            guidance = None if guidance is None else guidance[:, kept]
            x, correlation = self._run(level, x, skips[level], correlation, guidance)
        full = x.new_full((1, num_classes, *x.shape[2:]), float("-inf"))
        return full.index_copy(1, kept, x)

    def _run(
        self, level: int, x: Tensor, skip: Tensor, correlation: Tensor, text: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Runs a level, and after the last one the head.

        Args:
            level: which.
            x: class maps, (B, K, C, h, w).
            skip: projected stage, (B, skip channels, 2 h, 2 w).
            correlation: as many cells as ``x``.
            text: guidance of the attention, or None.

        Returns:
            Class maps and correlation of twice the size; after the last level logits (B, K, 2 h,
            2 w) and None.
        """
        block, project = self._levels[level], self.decoder_corr_guidance_projection[level]
        x = block.refine(x, text)
        chunks = []
        for chunk in class_chunks(x.shape[1], block.chunk_size):
            doubled = upsample(project, correlation[:, chunk])
            maps = block.enlarge(x[:, chunk], skip, doubled)
            # The last maps are the largest: no more than a chunk of them is there at a time.
            is_last = level == _NUM_LEVELS - 1
            chunks.append([classwise(self.head, maps)] if is_last else [maps, doubled])
        x, *rest = (torch.cat(parts, dim=1) for parts in zip(*chunks))
        return x, rest[0] if rest else None

    @property
    def _levels(self) -> tuple[DecoderLevel, ...]:
        return (self.decoder1, self.decoder2, self.decoder3)

    @property
    def _early_heads(self) -> tuple[nn.Module, ...]:
        return (self.head0, self.head1, self.head2)

    def _start(
        self, image: Tensor, text: Tensor, skips: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor | None], list[Tensor]]:
        """Makes class maps (B, K, C, H, W), correlation (B, K, P, H, W) and both guidances."""
        correlation = image_text_correlation(image, text).transpose(1, 2)
        x = self.conv1(correlation.flatten(0, 1)).unflatten(0, correlation.shape[:2])
        skips = [layer(skip) for layer, skip in zip(self.decoder_guidance_projection, skips)]
        if self.text_guidance_projection is None:
            return x, correlation, [None] * _NUM_LEVELS, skips
        mean = F.normalize(F.normalize(text, dim=-1).mean(dim=1), dim=-1)
        text_guidance = [
            layer(mean).expand(image.shape[0], -1, -1) for layer in self.text_guidance_projection
        ]
        return x, correlation, text_guidance, skips


class DecoderLevel(nn.Module):
    """One level of the decoder."""

    def __init__(
        self,
        *,
        in_dim: int,
        out_dim: int,
        skip_dim: int,
        make_block: Callable[..., nn.Module],
        make_attention: Callable[..., ClassTransformer],
        class_chunk_size: int,
    ) -> None:
        super().__init__()
        self.class_chunk_size = class_chunk_size
        self.up = nn.ConvTranspose2d(in_dim, in_dim - skip_dim, kernel_size=2, stride=2)
        self.conv = DoubleConv(in_dim + skip_dim, out_dim)
        self.cnext = make_block(dim=in_dim)
        self.attention = make_attention(dim=in_dim)

    @property
    def chunk_size(self) -> int:
        """Classes to compute at a time, 0 for all."""
        return 0 if self.training else self.class_chunk_size

    def refine(self, x: Tensor, text: Tensor | None) -> Tensor:
        """Refines class maps (B, K, in_dim, h, w) in space and over the classes."""
        x = map_chunks(self._refine, channels_last(x), self.chunk_size)
        return channels_first(self.attention(x, text, self.chunk_size))

    def enlarge(self, x: Tensor, skip: Tensor, correlation: Tensor) -> Tensor:
        """Doubles the size of class maps, to (B, K, out_dim, 2 h, 2 w).

        The skip (B, skip_dim, 2 h, 2 w) is that of all classes, the correlation has each class's.
        """
        return self.conv([upsample(self.up, x), skip.unsqueeze(1), correlation])

    def _refine(self, x: Tensor) -> Tensor:
        if isinstance(self.cnext, SwinPair):
            return self.cnext(x)
        return channels_last(self.cnext(channels_first(x)))
