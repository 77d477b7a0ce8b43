"""One ESC-Block: pseudo prompts, SAM block, vision-language fusion (ESC-Net section 3, figure 2).

Shapes: B images, K classes, H x W patches, D image channels (CLIP's), C channels of the embedded
correlation, M prompt sets.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from escnet_d2.modeling.sam import SamBlock
from escnet_d2.structures import PseudoPrompts

from .vision_language_fusion import VisionLanguageFusion


class EscBlock(nn.Module):
    """Refines image features by SAM, steered by prompts, and then the correlation by both.

    The paper fuses the K refined feature maps by a convolution over all of them, which fixes K.
    Here the convolution shares its weights over the classes: a mean over the classes, weighted at
    each pixel by the class's probability, then a 1 x 1 convolution and a residual.
    """

    def __init__(
        self, *, image_dim: int, sam: SamBlock | None, fusion: VisionLanguageFusion
    ) -> None:
        """Composes the block for D image channels; a ``sam`` of None leaves them as they are."""
        super().__init__()
        self.sam = sam
        self.fusion = fusion
        if sam is not None:
            # SAM's own image encoder ends in a normalized 1 x 1 projection, too.
            self.to_sam = nn.Sequential(
                nn.Linear(image_dim, sam.embed_dim), nn.LayerNorm(sam.embed_dim)
            )
            # Zero at first: SAM reads projected features that it never saw, so training starts from
            # CLIP's own features and lets SAM's in as they begin to help.
            self.from_sam = zero_linear(sam.embed_dim, image_dim)

    def forward(
        self,
        image: Tensor,
        x: Tensor,
        text: Tensor,
        class_map: Tensor,
        prompts: PseudoPrompts | None,
        chunk_size: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """Refines image features and correlation.

        Args:
            image: image features, (B, H, W, D).
            x: embedded correlation, (B, K, H, W, C).
            text: unit text features, (B, K, text_dim).
            class_map: class logits that the prompts were made from, (B, K, H, W).
            prompts: pseudo prompts; None without a SAM block.
            chunk_size: classes at a time, 0 for all.

        Returns:
            Refined image features and correlation, same shapes.
        """
        if self.sam is not None:
            image = image + self.from_sam(self._refine(image, class_map, prompts, chunk_size))
        return image, self.fusion(x, image, text, chunk_size)

    def _refine(
        self, image: Tensor, class_map: Tensor, prompts: PseudoPrompts, chunk_size: int
    ) -> Tensor:
        """Averages over the classes what SAM makes of the image, (B, H, W, SAM channels)."""
        B, K, H, W = class_map.shape
        embedding = self.to_sam(image).permute(0, 3, 1, 2)
        position = self.sam.image_position(H, W)
        rows, weights = _prompt_sets(class_map, prompts.has_foreground)
        mixed = embedding.new_zeros(B, H * W, self.sam.embed_dim)
        step = chunk_size * B if chunk_size else len(rows)
        for part, weight in zip(rows.split(step), weights.split(step)):
            images, classes = part.unbind(1)
            refined = self.sam(
                embedding[images],
                position,
                prompts.points[images, classes],
                prompts.point_labels[images, classes],
                prompts.masks[images, classes],
            )
            weighted = refined * weight.flatten(1).unsqueeze(2)
            mixed = mixed.index_add(0, images, weighted.to(mixed.dtype))
        return mixed.unflatten(1, (H, W))


def zero_linear(in_dim: int, out_dim: int) -> nn.Linear:
    """Makes a linear layer that starts at zero."""
    layer = nn.Linear(in_dim, out_dim)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _prompt_sets(class_map: Tensor, has_foreground: Tensor) -> tuple[Tensor, Tensor]:
    """Lists the (image, class) pairs that SAM has to see, and their weights in the mean.

    Classes without foreground have the same prompts (none): one of them stands for all, with the
    sum of their weights. Pairs are (M, 2), weights (M, H, W); those of an image sum to 1.
    """
    probability = class_map.float().softmax(dim=1)
    empty = ~has_foreground
    # The first class without foreground of each image.
    stand_in = empty & (empty.cumsum(dim=1) == 1)
    empty_weight = (probability * empty[:, :, None, None]).sum(dim=1, keepdim=True)
    weight = torch.where(stand_in[:, :, None, None], empty_weight, probability)
    rows = (has_foreground | stand_in).nonzero()
    return rows, weight[rows[:, 0], rows[:, 1]]
