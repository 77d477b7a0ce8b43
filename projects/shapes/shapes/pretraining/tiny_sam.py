"""A small SAM made of segment_anything's own classes, and its losses on prompted masks.

Shapes: B images, M prompts per image, N points per prompt, T mask tokens, 4 H x 4 W the low
resolution that SAM predicts at.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from detectron2.config import CfgNode
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import Tensor, nn
from torch.nn import functional as F

IMAGE_SIZE = 128
PATCH_SIZE = 8
_ENCODER_DIM = 96
_ENCODER_DEPTH = 4
_ENCODER_HEADS = 3
# The second half of the blocks attends globally, the first in windows of this many patches.
_WINDOW_SIZE = 8
_IOU_HEAD_DEPTH = 3
# Focal loss against dice loss (SAM, appendix A).
_FOCAL_WEIGHT = 20.0
_FOCAL_ALPHA, _FOCAL_GAMMA = 0.25, 2.0


def build_tiny_sam(cfg: CfgNode) -> Sam:
    """Builds a SAM for pictures of 128 x 128 whose decoder has the sizes of MODEL.SAM."""
    node = cfg.MODEL.SAM
    grid = IMAGE_SIZE // PATCH_SIZE
    return Sam(
        image_encoder=ImageEncoderViT(
            img_size=IMAGE_SIZE,
            patch_size=PATCH_SIZE,
            embed_dim=_ENCODER_DIM,
            depth=_ENCODER_DEPTH,
            num_heads=_ENCODER_HEADS,
            mlp_ratio=4,
            out_chans=node.EMBED_DIM,
            qkv_bias=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=_WINDOW_SIZE,
            global_attn_indexes=tuple(range(_ENCODER_DEPTH // 2, _ENCODER_DEPTH)),
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=node.EMBED_DIM,
            image_embedding_size=(grid, grid),
            input_image_size=(IMAGE_SIZE, IMAGE_SIZE),
            mask_in_chans=node.MASK_IN_CHANS,
        ),
        mask_decoder=MaskDecoder(
            transformer_dim=node.EMBED_DIM,
            transformer=TwoWayTransformer(
                depth=node.DEPTH,
                embedding_dim=node.EMBED_DIM,
                mlp_dim=node.MLP_DIM,
                num_heads=node.NUM_HEADS,
            ),
            num_multimask_outputs=node.NUM_MASK_TOKENS - 1,
            iou_head_depth=_IOU_HEAD_DEPTH,
            iou_head_hidden_dim=node.EMBED_DIM,
        ),
    )


@dataclass(frozen=True)
class PromptBatch:
    """One batch.

    Attributes:
        images: uint8 (B, 3, h, w), RGB.
        points: (B, M, N, 2), (x, y) in pixels.
        point_labels: (B, M, N), 1 or -1 ("not a point").
        mask_prompts: logits, (B, M, 4 H, 4 W).
        has_mask_prompt: bool (B, M).
        targets: the masks wanted, bool (B, M, 4 H, 4 W).
    """

    images: Tensor
    points: Tensor
    point_labels: Tensor
    mask_prompts: Tensor
    has_mask_prompt: Tensor
    targets: Tensor

    @property
    def is_ambiguous(self) -> Tensor:
        """Prompts of a single point, bool (B, M), for which SAM offers several masks."""
        return (self.point_labels == 1).sum(dim=2).le(1) & ~self.has_mask_prompt


class PromptedSam(nn.Module):
    """Losses of a SAM on prompts."""

    def __init__(self, sam: Sam) -> None:
        """Takes the model to train."""
        super().__init__()
        self.sam = sam

    def forward(self, batch: PromptBatch) -> dict[str, Tensor]:
        """Returns ``loss_mask`` and ``loss_iou``."""
        logits, predicted_iou = self.predict(batch)
        targets = batch.targets.unsqueeze(2).expand_as(logits)
        per_mask = mask_loss(logits, targets)  # (B, M, T)
        iou_error = (predicted_iou - mask_iou(logits.detach() > 0, targets)) ** 2
        # Only the best of the several masks learns, as in SAM; else the first token's.
        chosen = torch.where(batch.is_ambiguous, per_mask[..., 1:].argmin(dim=2) + 1, 0)
        index = chosen.unsqueeze(2)
        return {
            "loss_mask": per_mask.gather(2, index).mean(),
            "loss_iou": iou_error.gather(2, index).mean(),
        }

    def predict(self, batch: PromptBatch) -> tuple[Tensor, Tensor]:
        """Masks of every token, logits (B, M, T, 4 H, 4 W), and their expected IoU (B, M, T)."""
        sam = self.sam
        pixels = (batch.images.float() - sam.pixel_mean) / sam.pixel_std
        position = sam.prompt_encoder.get_dense_pe()
        masks, ious = [], []
        for index, embedding in enumerate(sam.image_encoder(pixels)):
            sparse, dense = sam.prompt_encoder(
                points=(batch.points[index], batch.point_labels[index]),
                boxes=None,
                masks=batch.mask_prompts[index].unsqueeze(1),
            )
            no_mask = sam.prompt_encoder.no_mask_embed.weight.view(1, -1, 1, 1)
            given = batch.has_mask_prompt[index].view(-1, 1, 1, 1)
            mask, iou = sam.mask_decoder.predict_masks(
                image_embeddings=embedding.unsqueeze(0),
                image_pe=position,
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=torch.where(given, dense, no_mask),
            )
            masks.append(mask)
            ious.append(iou)
        return torch.stack(masks), torch.stack(ious)


def mask_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Focal and dice loss of each mask.

    Args:
        logits: (..., h, w).
        targets: bool, same shape.

    Returns:
        (...).
    """
    logits, truth = logits.flatten(-2), targets.flatten(-2).to(logits.dtype)
    probability = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    right = probability * truth + (1 - probability) * (1 - truth)
    alpha = _FOCAL_ALPHA * truth + (1 - _FOCAL_ALPHA) * (1 - truth)
    focal = (alpha * (1 - right) ** _FOCAL_GAMMA * entropy).mean(dim=-1)
    overlap = (probability * truth).sum(dim=-1)
    dice = 1 - (2 * overlap + 1) / (probability.sum(dim=-1) + truth.sum(dim=-1) + 1)
    return _FOCAL_WEIGHT * focal + dice


def mask_iou(masks: Tensor, targets: Tensor) -> Tensor:
    """Intersection over union of bool masks (..., h, w); 1 where both are empty."""
    intersection = (masks & targets).flatten(-2).sum(dim=-1)
    union = (masks | targets).flatten(-2).sum(dim=-1)
    return torch.where(union > 0, intersection / union.clamp(min=1), 1.0)
