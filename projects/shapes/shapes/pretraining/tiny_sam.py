"""A small SAM made of segment_anything's own classes, and its losses on prompted masks.

Shapes: B images, M prompts per image, N points per prompt, 4 H x 4 W the low resolution that SAM
predicts at. Things have no parts that are targets as well, so that one mask token serves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from detectron2.config import CfgNode
from segment_anything.modeling import ImageEncoderViT, PromptEncoder, Sam
from torch import Tensor, nn
from torch.nn import functional as F

from escnet_d2.modeling.sam.build import build_mask_decoder

from ..scenes import SIZE
from .clip_start import sinusoidal_positions

PATCH_SIZE = 8
_ENCODER_DIM = 96
_ENCODER_DEPTH = 4
_ENCODER_HEADS = 3
# The second half of the blocks attends globally, the first in windows of this many patches.
_WINDOW_SIZE = 8
# Focal loss against dice loss (SAM, appendix A).
_FOCAL_WEIGHT = 20.0
_FOCAL_ALPHA, _FOCAL_GAMMA = 0.25, 2.0
# How strongly queries and keys agree at first: of patches, and of tokens and patches, where it
# sharpens the attention of a point to its own place.
_PATCH_AGREEMENT, _TOKEN_AGREEMENT = 0.7, 4.0
# Cosines of patches become logits: those of one region should exceed one half.
_GROUPING_SCALE, _GROUPING_THRESHOLD = 10.0, 0.5
# Every so many patches are compared; prime to the grid's width, so that all columns are.
_PAIR_STRIDE = 5


def build_tiny_sam(cfg: CfgNode) -> Sam:
    """Builds a SAM for scenes whose decoder has the sizes of MODEL.SAM."""
    node = cfg.MODEL.SAM
    grid = SIZE // PATCH_SIZE
    return Sam(
        image_encoder=ImageEncoderViT(
            img_size=SIZE,
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
            input_image_size=(SIZE, SIZE),
            mask_in_chans=node.MASK_IN_CHANS,
        ),
        mask_decoder=build_mask_decoder(node),
    )


@torch.no_grad()
def initialize_sam(sam: Sam) -> None:
    """Sets position embeddings, queries and keys so that a little training suffices.

    Sinusoidal positions and queries that agree with keys start the image encoder with attention to
    what is near and alike, as ``initialize_vit`` does, and points with attention to their own
    place, whose encoding points and image share.

    Args:
        sam: changed in place.
    """
    encoder = sam.image_encoder
    grid, width = encoder.pos_embed.shape[1:3], encoder.pos_embed.shape[3]
    encoder.pos_embed.copy_(sinusoidal_positions(tuple(grid), width).view(1, *grid, width))
    for block in encoder.blocks:
        queries, keys, _ = block.attn.qkv.weight.chunk(3)
        for rows in torch.arange(width).chunk(block.attn.num_heads):
            basis = nn.init.orthogonal_(torch.empty(len(rows), width))
            queries[rows] = keys[rows] = basis * math.sqrt(_PATCH_AGREEMENT)
    transformer = sam.mask_decoder.transformer
    crossings = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        crossings += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    for attention in crossings:
        basis = nn.init.orthogonal_(torch.empty_like(attention.q_proj.weight))
        for projection in (attention.q_proj, attention.k_proj):
            projection.weight.copy_(basis * math.sqrt(_TOKEN_AGREEMENT))
            projection.bias.zero_()


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
        regions: which thing or ground each patch's middle shows, int64 (B, H, W).
    """

    images: Tensor
    points: Tensor
    point_labels: Tensor
    mask_prompts: Tensor
    has_mask_prompt: Tensor
    targets: Tensor
    regions: Tensor


class PromptedSam(nn.Module):
    """Losses of a SAM on prompts."""

    def __init__(self, sam: Sam) -> None:
        """Takes the model to train."""
        super().__init__()
        self.sam = sam

    def forward(self, batch: PromptBatch) -> dict[str, Tensor]:
        """Returns ``loss_mask``, ``loss_iou`` and ``loss_grouping``."""
        embeddings = self.encode(batch.images)
        logits, predicted_iou = self.predict(batch, embeddings)
        iou_error = (predicted_iou - mask_iou(logits.detach() > 0, batch.targets)) ** 2
        return {
            "loss_mask": mask_loss(logits, batch.targets).mean(),
            "loss_iou": iou_error.mean(),
            "loss_grouping": grouping_loss(embeddings, batch.regions),
        }

    def encode(self, images: Tensor) -> Tensor:
        """SAM's embeddings (B, C, H, W) of images, uint8 (B, 3, h, w)."""
        return self.sam.image_encoder((images.float() - self.sam.pixel_mean) / self.sam.pixel_std)

    def predict(self, batch: PromptBatch, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """SAM's first masks, logits (B, M, 4 H, 4 W), and their expected IoU (B, M)."""
        sam = self.sam
        position = sam.prompt_encoder.get_dense_pe()
        masks, ious = [], []
        for index, embedding in enumerate(embeddings):
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
            masks.append(mask[:, 0])
            ious.append(iou[:, 0])
        return torch.stack(masks), torch.stack(ious)


def grouping_loss(embeddings: Tensor, regions: Tensor) -> Tensor:
    """Tells by their cosine whether two patches show one region; a scalar.

    Prompts reach few patches at a time; this teaches the image encoder from all of them.

    Args:
        embeddings: (B, C, H, W).
        regions: (B, H, W).
    """
    features = F.normalize(embeddings.flatten(2)[:, :, ::_PAIR_STRIDE], dim=1)
    own = regions.flatten(1)[:, ::_PAIR_STRIDE]
    cosine = features.transpose(1, 2) @ features
    same = (own[:, :, None] == own[:, None, :]).to(cosine.dtype)
    logits = _GROUPING_SCALE * (cosine - _GROUPING_THRESHOLD)
    return F.binary_cross_entropy_with_logits(logits, same)


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
