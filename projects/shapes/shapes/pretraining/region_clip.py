"""Contrastive pre-training of a small CLIP on regions, for dense features that mean something.

Contrast of whole images with captions alone teaches a model of this size nothing about where things
are. Here the dense features are pooled over the box of each described item and contrasted with the
item's phrase, besides whole images with their captions.

Shapes: B images, R regions, U phrases, D channels of the shared space, H x W cells, which are the
patches of a ViT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class RegionBatch:
    """One batch.

    Attributes:
        images: uint8 (B, 3, h, w).
        pooling: weights of the patches in each region, (R, H W), rows summing to 1.
        owner: image of each region, int64 (R,).
        phrases: U sentences.
        target: the phrase that describes each region, int64 (R,).
        is_true: whether each phrase is true of each region, bool (R, U).
        captions: B sentences on the whole images; None leaves that contrast out.
    """

    images: Tensor
    pooling: Tensor
    owner: Tensor
    phrases: Sequence[str]
    target: Tensor
    is_true: Tensor
    captions: Sequence[str] | None = None


class RegionClip(nn.Module):
    """Losses of a CLIP on region batches."""

    def __init__(self, clip: nn.Module, *, scale: int = 1) -> None:
        """Composes the model.

        Args:
            clip: a ``ClipEncoder`` or ``ConvNextEncoder`` to train; its temperature trains as well.
            scale: images are enlarged by this factor, as by the model that is to read them.
        """
        super().__init__()
        self.clip = clip
        self.scale = scale
        clip.model.logit_scale.requires_grad_(True)
        mean, std = clip.pixel_statistics
        self.register_buffer("pixel_mean", mean.view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", std.view(3, 1, 1), persistent=False)

    @property
    def cell_size(self) -> int:
        """Side of a cell of the dense features in pixels of the images before they are enlarged."""
        return self.clip.patch_size // self.scale

    def forward(self, batch: RegionBatch) -> dict[str, Tensor]:
        """Returns ``loss_region`` and, with captions, ``loss_image``."""
        images = self.prepare(batch.images)
        regions = self.region_features(images, batch.pooling, batch.owner)
        text = self.clip.text.encode_sentences(batch.phrases)
        temperature = self.clip.temperature.clamp(max=100)
        losses = {
            "loss_region": region_loss(
                temperature * regions @ text.t(), batch.target, batch.is_true
            )
        }
        if batch.captions is not None:
            losses["loss_image"] = self._image_loss(images, batch.captions, temperature)
        return losses

    def prepare(self, images: Tensor) -> Tensor:
        """Normalizes images of any type on the scale 0 to 255 and enlarges them, (B, 3, h, w)."""
        images = (images.float() - self.pixel_mean) / self.pixel_std
        if self.scale == 1:
            return images
        # As CAT-Seg and SED squash theirs.
        return F.interpolate(images, scale_factor=self.scale, mode="bilinear", align_corners=False)

    def region_features(self, images: Tensor, pooling: Tensor, owner: Tensor) -> Tensor:
        """Unit features of regions, (R, D): the mean of their patches' unit features.

        Args:
            images: of :meth:`prepare`.
            pooling: (R, H W).
            owner: (R,).
        """
        dense = F.normalize(self.clip.encode_image(images).dense.flatten(2), dim=1)  # (B, D, HW)
        return F.normalize(torch.einsum("rp,rdp->rd", pooling, dense[owner]), dim=-1)

    def _image_loss(self, images: Tensor, captions: Sequence[str], temperature: Tensor) -> Tensor:
        image = F.normalize(self.clip.model.encode_image(images), dim=-1)
        logits = temperature * image @ self.clip.text.encode_sentences(captions).t()
        target = torch.arange(len(logits), device=logits.device)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.t(), target)) / 2


def region_loss(logits: Tensor, target: Tensor, is_true: Tensor) -> Tensor:
    """Symmetric contrast of regions and phrases.

    A phrase that is true of a region, but not the one drawn for it ("red circle" for "striped red
    circle"), does not count as a negative and is left out. Identical phrases are one phrase: all
    regions that drew it are its positives.

    Args:
        logits: scaled cosines, (R, U).
        target: the phrase drawn for each region, int64 (R,).
        is_true: bool (R, U).

    Returns:
        Scalar.
    """
    positive = F.one_hot(target, logits.shape[1]).bool()
    masked = logits.masked_fill(is_true & ~positive, float("-inf"))
    to_phrase = F.cross_entropy(masked, target)
    described = positive.any(dim=0)
    per_phrase = masked[:, described].t()  # (phrases, R)
    chosen = per_phrase.masked_fill(~positive[:, described].t(), float("-inf"))
    to_region = (per_phrase.logsumexp(dim=1) - chosen.logsumexp(dim=1)).mean()
    return (to_phrase + to_region) / 2
