"""One ESC-Block: pseudo prompts, SAM block, vision-language fusion (ESC-Net section 3, figure 2).

Shapes: B images, K classes, N points, H x W patches, D image channels (CLIP's), C channels of the
embedded correlation, M prompt sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from escnet_d2.layers.mask_pooling import MaskPooling
from escnet_d2.modeling.sam import SamBlock
from escnet_d2.structures import PseudoPrompts

from .vision_language_fusion import VisionLanguageFusion

SAM_OUTPUTS = ("guidance", "pooling", "features", "masks")


class EscBlock(nn.Module):
    """A SAM block, whose findings reach image and correlation, and the fusion of both.

    Paths from SAM to the answer (MODEL.ESCNET.SAM_OUTPUTS), each by a linear layer that is zero at
    first, so that training starts from CLIP's own features and correlation:

    - ``guidance``, the paper's: the K refined feature maps, fused into one, guide the fusion. The
      paper fuses by a convolution over all of them, which fixes K; here it shares its weights over
      the classes: a mean, weighted at each pixel by the class's probability, then a 1 x 1
      convolution and a residual.
    - ``pooling``: SAM's masks say which patches belong together; every class gets its means inside
      them (:class:`MaskPooling`).
    - ``features`` and ``masks``: each class's own refined features, or mask, added to its
      correlation.
    """

    def __init__(
        self,
        *,
        image_dim: int,
        dim: int,
        sam: SamBlock | None,
        sam_outputs: Sequence[str],
        fusion: VisionLanguageFusion,
    ) -> None:
        """Composes the block.

        Args:
            image_dim: D.
            dim: C.
            sam: None leaves SAM out.
            sam_outputs: one or more of ``SAM_OUTPUTS``.
            fusion: of image, text and correlation.

        Raises:
            ValueError: an unknown option; the message names the key.
        """
        super().__init__()
        if not sam_outputs or set(sam_outputs) - set(SAM_OUTPUTS):
            raise ValueError(
                f"MODEL.ESCNET.SAM_OUTPUTS must name one or more of {', '.join(SAM_OUTPUTS)}, "
                f"got {list(sam_outputs)}."
            )
        self.sam = sam
        self.fusion = fusion
        self.from_sam = self.pooling = self.own_features = self.own_mask = None
        if sam is None:
            return
        if "guidance" in sam_outputs:
            self.from_sam = zero_linear(sam.embed_dim, image_dim)
        if "pooling" in sam_outputs:
            self.pooling = MaskPooling(dim)
        if "features" in sam_outputs:
            self.own_features = zero_linear(sam.embed_dim, dim)
        if "masks" in sam_outputs:
            self.own_mask = zero_linear(1, dim)

    def forward(
        self,
        image: Tensor,
        x: Tensor,
        text: Tensor,
        class_map: Tensor,
        prompts: PseudoPrompts | None,
        embedding: Tensor | None,
        *,
        chunk_size: int = 0,
        recompute: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Refines image features and correlation.

        Args:
            image: image features, (B, H, W, D).
            x: embedded correlation, (B, K, H, W, C).
            text: unit text features, (B, K, text_dim).
            class_map: class logits that the prompts were made from, (B, K, H, W).
            prompts: pseudo prompts; None without a SAM block, like ``embedding``.
            embedding: what SAM reads, (B, SAM channels, H, W).
            chunk_size: classes at a time, 0 for all.
            recompute: keep nothing of the fusion for the backward pass, which runs it again.

        Returns:
            Refined image features and correlation, same shapes.
        """
        if self.sam is not None:
            found = self._run_sam(embedding, class_map, prompts, chunk_size)
            if self.from_sam is not None:
                image = image + self.from_sam(found.mixed)
            if self.own_features is not None:
                x = x + self.own_features(found.own_features)
            if self.own_mask is not None:
                x = x + self.own_mask(found.own_mask.unsqueeze(-1))
            if self.pooling is not None:
                x = self.pooling(x, class_map, found.masks, chunk_size)
        if recompute:
            x = checkpoint(self.fusion, x, image, text, chunk_size, use_reentrant=False)
        else:
            x = self.fusion(x, image, text, chunk_size)
        return image, x

    def _run_sam(
        self, embedding: Tensor, class_map: Tensor, prompts: PseudoPrompts, chunk_size: int
    ) -> SamFindings:
        """Runs SAM on all prompt sets, image by image."""
        K, H, W = class_map.shape[1:]
        position = self.sam.image_position(H, W)
        sets, counts = prompt_sets(class_map, prompts)
        found = [
            self._find(image, position, own, K, chunk_size)
            for image, own in zip(embedding.split(1), sets.split(counts))
        ]
        mixed, masks, own_mask, own_features = zip(*found)
        return SamFindings(
            mixed=None if self.from_sam is None else torch.stack(mixed).unflatten(1, (H, W)),
            masks=list(masks),
            own_mask=None if self.own_mask is None else torch.stack(own_mask),
            own_features=(
                None
                if self.own_features is None
                else torch.stack(own_features).unflatten(2, (H, W))
            ),
        )

    def _find(
        self, image: Tensor, position: Tensor, sets: PromptSets, num_classes: int, chunk_size: int
    ) -> tuple[Tensor | None, Tensor, Tensor | None, Tensor | None]:
        """Finds the fields of :class:`SamFindings` for one image, (1, SAM channels, H, W)."""
        H, W = image.shape[2:]
        mixed = own_mask = own_features = None
        if self.from_sam is not None:
            mixed = image.new_zeros(H * W, self.sam.embed_dim)
        if self.own_features is not None:
            own_features = image.new_zeros(num_classes, H * W, self.sam.embed_dim)
        masks = []
        for part in sets.split(chunk_size) if chunk_size else [sets]:
            refined, logits = self.sam(image, position, part.points, part.point_labels, part.masks)
            is_given = part.is_given.view(-1, 1, 1)
            if mixed is not None:
                weighted = refined * part.weight.flatten(1).unsqueeze(2)
                mixed = mixed + weighted.sum(dim=0)
            if own_features is not None:
                own = (refined * is_given).to(own_features.dtype)
                own_features = own_features.index_add(0, part.entry, own)
            if logits is not None:
                masks.append(_patch_shares(logits) * is_given)
        found = torch.cat(masks) if masks else image.new_zeros(len(sets.entry), H, W)
        if self.own_mask is not None:
            own_mask = found.new_zeros(num_classes, H, W).index_add(0, sets.entry, found)
        return mixed, found, own_mask, own_features


def _patch_shares(logits: Tensor) -> Tensor:
    """Shares of patches that lie in masks, (M, H, W), of logits (M, 4 H, 4 W).

    As SAM's users do, what is above 0 is in; gradients are those of a sigmoid.
    """
    soft = logits.sigmoid()
    return F.avg_pool2d((logits > 0).to(soft.dtype) + soft - soft.detach(), 4)


@dataclass(frozen=True)
class SamFindings:
    """What SAM makes of all prompt sets.

    Attributes:
        mixed: mean of the refined image features, weighted by the classes' probability, (B, H, W,
            SAM channels); None, as of the others, where it is not wanted.
        masks: of each image, (M, H, W) in [0, 1].
        own_mask: each class's mask, (B, K, H, W), 0 without prompts.
        own_features: each class's refined features, (B, K, H, W, SAM channels), 0 without prompts.
    """

    mixed: Tensor | None
    masks: list[Tensor]
    own_mask: Tensor | None
    own_features: Tensor | None


def zero_linear(in_dim: int, out_dim: int) -> nn.Linear:
    """Makes a linear layer that starts at zero."""
    layer = nn.Linear(in_dim, out_dim)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


@dataclass(frozen=True)
class PromptSets:
    """Prompts as SAM takes them, one row for each time that it runs; images in order.

    Attributes:
        entry: (M,) which class of its image.
        points: (M, N, 2), (x, y) in patches.
        point_labels: (M, N), 1 or -1.
        masks: (M, H, W), probability in [0, 1].
        weight: (M, H, W) in the mean of the refined features; those of an image sum to 1.
    """

    entry: Tensor
    points: Tensor
    point_labels: Tensor
    masks: Tensor
    weight: Tensor

    @property
    def is_given(self) -> Tensor:
        """Bool (M,): sets with a point."""
        return (self.point_labels == 1).any(dim=1)

    def split(self, size: int | list[int]) -> list[PromptSets]:
        """Cuts the sets into parts of at most this many rows, or of these numbers of rows."""
        columns = [getattr(self, name).split(size) for name in self.__dataclass_fields__]
        return [PromptSets(*parts) for parts in zip(*columns)]


def prompt_sets(class_map: Tensor, prompts: PseudoPrompts) -> tuple[PromptSets, list[int]]:
    """Lists what SAM has to see: a set for each class with foreground.

    Classes without have the same prompts, none: one row stands for all of them, with the sum of
    their weights.

    Args:
        class_map: class logits, (B, K, H, W).
        prompts: of these maps.

    Returns:
        The sets, and how many of them each image has.
    """
    empty = ~prompts.has_foreground  # (B, K)
    weight = class_map.float().softmax(dim=1)
    empty_weight = (weight * empty[:, :, None, None]).sum(dim=1)
    # In the place of the first class without foreground.
    is_set = ~empty | (empty.cumsum(dim=1) == 1)
    # Here the host waits for a GPU, and nowhere else in a block: `nonzero` would be another time.
    numbers = is_set.sum(dim=1).tolist()
    place = is_set.flatten().to(torch.uint8).argsort(descending=True, stable=True)[: sum(numbers)]
    image, entry = place // is_set.shape[1], place % is_set.shape[1]
    own = (image, entry)
    sets = PromptSets(
        entry=entry,
        points=prompts.points[own],
        point_labels=prompts.point_labels[own],
        masks=prompts.masks[own],
        weight=torch.where(empty[own][:, None, None], empty_weight[image], weight[own]),
    )
    return sets, numbers
