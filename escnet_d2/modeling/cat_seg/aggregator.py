"""CAT-Seg's aggregation of the image-text correlation (CAT-Seg section 3).

Shapes: B images, K classes (K' after pruning), P templates, H x W patches, D channels of CLIP's
shared space, C channels of the embedded correlation, G_t text guidance channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from escnet_d2.layers import image_text_correlation, map_chunks
from escnet_d2.layers.class_subsets import likeliest_classes, restore_classes, take_classes
from escnet_d2.layers.class_transformer import ClassTransformer
from escnet_d2.layers.guided_upsampling import DoubleConv, channels_first, classwise, upsample
from escnet_d2.layers.swin_pair import SwinPair


class CostAggregator(nn.Module):
    """Correlation maps to class logits at four times the grid.

    Embeds the correlation, refines it ``num_layers`` times in space (Swin blocks guided by CLIP's
    image features) and over the classes (attention guided by the text), and upsamples it twice,
    each time joined by features of an earlier block of CLIP.
    """

    def __init__(
        self,
        *,
        num_templates: int,
        text_dim: int,
        text_guidance_dim: int,
        image_dim: int,
        image_guidance_dim: int,
        decoder_dims: Sequence[int],
        skip_dims: Sequence[int],
        skip_guidance_dims: Sequence[int],
        num_layers: int,
        hidden_dim: int,
        make_swin_pair: Callable[..., SwinPair],
        make_attention: Callable[..., ClassTransformer],
        grid: tuple[int, int],
        pad_length: int,
        class_chunk_size: int = 0,
        injection: nn.Module | None = None,
    ) -> None:
        """Sizes; see the keys of MODEL.SEM_SEG_HEAD.

        Args:
            num_templates: P.
            text_dim: D, or 0 for attention over the classes without text guidance.
            text_guidance_dim: G_t, 0 along with ``text_dim``.
            image_dim: D, or 0 for Swin blocks without guidance.
            image_guidance_dim: channels of the projected image features.
            decoder_dims: channels after each of the two upsamplings.
            skip_dims: channels of the two skips; a first one of 0 leaves them out.
            skip_guidance_dims: channels of the projected skips.
            num_layers: how often the correlation is refined.
            hidden_dim: C.
            make_swin_pair: of channels and grid.
            make_attention: over the classes, of channels.
            grid: (H, W).
            pad_length: classes that the attention is filled up to, and that are kept where there
                are more; 0 for neither.
            class_chunk_size: classes at a time, in testing.
            injection: a :class:`MaskInjection`, in SAM-MI.

        Raises:
            ValueError: numbers that do not fit together.
        """
        super().__init__()
        if len(decoder_dims) != 2 or not len(skip_dims) == len(skip_guidance_dims) == 2:
            raise ValueError(
                "MODEL.SEM_SEG_HEAD.DECODER_DIMS, DECODER_GUIDANCE_DIMS and "
                "DECODER_GUIDANCE_PROJ_DIMS of CATSeg need two values each, got "
                f"{list(decoder_dims)}, {list(skip_dims)} and {list(skip_guidance_dims)}."
            )
        self.pad_length = pad_length
        self.class_chunk_size = class_chunk_size
        self.injection = injection
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "swin_block": make_swin_pair(
                        dim=hidden_dim, guidance_dim=image_guidance_dim, grid=grid
                    ),
                    "attention": make_attention(
                        dim=hidden_dim, text_dim=text_guidance_dim, pad_length=pad_length
                    ),
                }
            )
            for _ in range(num_layers)
        )
        self.conv1 = nn.Conv2d(num_templates, hidden_dim, kernel_size=7, padding=3)
        self.guidance_projection = _conv_relu(image_dim, image_guidance_dim) if image_dim else None
        self.text_guidance_projection = (
            nn.Sequential(nn.Linear(text_dim, text_guidance_dim), nn.ReLU()) if text_dim else None
        )
        self.decoder_guidance_projection = (
            nn.ModuleList(_conv_relu(i, o) for i, o in zip(skip_dims, skip_guidance_dims))
            if skip_dims[0]
            else None
        )
        self.decoder1 = UpBlock(hidden_dim, decoder_dims[0], skip_guidance_dims[0])
        self.decoder2 = UpBlock(decoder_dims[0], decoder_dims[1], skip_guidance_dims[1])
        self.head = nn.Conv2d(decoder_dims[1], 1, kernel_size=3, padding=1)

    def forward(
        self,
        image: Tensor,
        text: Tensor,
        skips: Sequence[Tensor],
        masks: Sequence[Tensor] = (),
    ) -> Tensor:
        """Predicts class logits.

        Args:
            image: dense features of CLIP, (B, D, H, W).
            text: text embeddings, (K, P, D).
            skips: (B, skip_dims[0], 2 H, 2 W) and (B, skip_dims[1], 4 H, 4 W).
            masks: of each image, shares of cells (M, 4 H, 4 W), for the injection.

        Returns:
            (B, K, 4 H, 4 W); classes beyond the likeliest ``pad_length`` get PRUNED_LOGIT.
        """
        correlation = image_text_correlation(image, text)  # (B, P, K, H, W)
        num_classes = correlation.shape[2]
        classes = self._likeliest(correlation)
        correlation = take_classes(correlation, classes)
        text = self._project_text(text, classes)
        guidance = None
        if self.guidance_projection is not None:
            guidance = self.guidance_projection(image).permute(0, 2, 3, 1)
        if self.decoder_guidance_projection is not None:
            skips = [layer(skip) for layer, skip in zip(self.decoder_guidance_projection, skips)]
        else:
            skips = [None, None]

        chunk_size = 0 if self.training else self.class_chunk_size
        x = map_chunks(self._embed, correlation.transpose(1, 2), chunk_size)
        if self.injection is not None:
            x = self.injection.at_low("input", x, correlation, masks, chunk_size)
        for layer in self.layers:
            x = map_chunks(partial(layer["swin_block"], guidance=guidance), x, chunk_size)
            x = layer["attention"](x, text, chunk_size)
        if self.injection is not None:
            x = self.injection.at_low("output", x, correlation, masks, chunk_size)
        logits = map_chunks(partial(self._decode, skips=skips, masks=masks), x, chunk_size)
        return restore_classes(logits, classes, num_classes)

    def _likeliest(self, correlation: Tensor) -> Tensor:
        """Picks the classes of each image, (B, K'), by the best cosine of any template."""
        B, _, K, _, _ = correlation.shape
        if not 0 < self.pad_length < K:
            return torch.arange(K, device=correlation.device).expand(B, K)
        return likeliest_classes(correlation.detach().amax(dim=(1, 3, 4)), self.pad_length)

    def _project_text(self, text: Tensor, classes: Tensor) -> Tensor | None:
        """Projects text embeddings, (K, P, D) to (B, K', G_t)."""
        if self.text_guidance_projection is None:
            return None
        mean = F.normalize(F.normalize(text, dim=-1).mean(dim=1), dim=-1)
        return self.text_guidance_projection(mean)[classes]

    def _embed(self, maps: Tensor) -> Tensor:
        """Embeds the correlation, (B, k, P, H, W) to (B, k, H, W, C)."""
        embedded = self.conv1(maps.flatten(0, 1)).permute(0, 2, 3, 1)
        return embedded.unflatten(0, maps.shape[:2])

    def _decode(self, x: Tensor, skips: Sequence[Tensor | None], masks: Sequence[Tensor]) -> Tensor:
        """Decodes classes, (B, k, H, W, C) to (B, k, 4 H, 4 W)."""
        maps = channels_first(x)
        for level, decode in enumerate((self.decoder1, self.decoder2)):
            maps = decode(maps, skips[level])
            if self.injection is not None:
                maps = self.injection.at_high(level, maps, masks)
        return classwise(self.head, maps)


class UpBlock(nn.Module):
    """Doubles the grid, joins a skip that all classes of an image share, and convolves."""

    def __init__(self, in_dim: int, out_dim: int, skip_dim: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_dim, in_dim - skip_dim, kernel_size=2, stride=2)
        self.conv = DoubleConv(in_dim, out_dim)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """Upsamples (B, K, in_dim, h, w) to (B, K, out_dim, 2 h, 2 w); skip (B, skip_dim, ...)."""
        parts = [upsample(self.up, x)]
        if skip is not None:
            parts.append(skip.unsqueeze(1))
        return self.conv(parts)


def _conv_relu(in_dim: int, out_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_dim, out_dim, kernel_size=3, padding=1), nn.ReLU())
