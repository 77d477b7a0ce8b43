"""Dense features from open_clip's ViT, without hooks: our own walk over its blocks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from escnet_d2.structures import ClipFeatures

DENSE_RESIDUALS = ("cls", "token")


def dense_image_features(
    visual: VisionTransformer,
    images: Tensor,
    *,
    intermediate_blocks: Sequence[int],
    residual: str,
    gradient_checkpointing: bool = False,
) -> ClipFeatures:
    """Projects every patch into the space that images and text share.

    The last block passes on its values without mixing them (its attention averages the image for
    the class token): ``out_proj(v(ln_1(x)))`` is added to the class token's input (``cls``, as the
    CAT-Seg release does) or to each patch's own (``token``), then its MLP, ``ln_post`` and
    ``proj``.

    Args:
        visual: open_clip's image tower, with :class:`SplitAttention` in its blocks.
        images: normalized, (B, 3, h, w); h and w multiples of the patch size.
        intermediate_blocks: 0-based blocks whose outputs are wanted, ascending.
        residual: "cls" or "token".
        gradient_checkpointing: recompute the blocks in the backward pass.

    Returns:
        Features on the grid h / patch x w / patch.

    Raises:
        ValueError: a size that is not a multiple of the patch size.
    """
    height, width = images.shape[-2:]
    patch_h, patch_w = visual.patch_size
    if height % patch_h or width % patch_w or not height or not width:
        raise ValueError(
            f"Image size {height} x {width} is not a multiple of the patch size "
            f"{patch_h} x {patch_w}."
        )
    grid = (height // patch_h, width // patch_w)
    x = _embed(visual, images, grid)
    *blocks, last = visual.transformer.resblocks
    kept = {}
    for index, block in enumerate(blocks):
        if gradient_checkpointing and torch.is_grad_enabled():
            x = checkpoint(block, x, use_reentrant=False)
        else:
            x = block(x)
        if index in intermediate_blocks:
            kept[index] = _to_map(x, grid)
    x = _value_path(last, x, residual)
    dense = visual.ln_post(x[:, 1:]) @ visual.proj
    return ClipFeatures(
        dense=dense.transpose(1, 2).unflatten(2, grid),
        intermediate=tuple(kept[index] for index in intermediate_blocks),
    )


def _embed(visual: VisionTransformer, images: Tensor, grid: tuple[int, int]) -> Tensor:
    patches = visual.conv1(images).flatten(2).transpose(1, 2)
    class_token = visual.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)
    position = _position_embedding(visual, grid).to(patches.dtype)
    return visual.ln_pre(torch.cat([class_token, patches], dim=1) + position)


def _position_embedding(visual: VisionTransformer, grid: tuple[int, int]) -> Tensor:
    """Resizes the position embeddings to a grid, bicubic and not antialiased as in CAT-Seg."""
    embedding = visual.positional_embedding
    if tuple(visual.grid_size) == grid:
        return embedding
    class_position, positions = embedding[:1], embedding[1:]
    square = positions.t().unflatten(1, tuple(visual.grid_size)).unsqueeze(0)
    resized = F.interpolate(square.float(), size=grid, mode="bicubic", align_corners=False)
    return torch.cat([class_position, resized[0].flatten(1).t().to(embedding.dtype)])


def _value_path(block: ResidualAttentionBlock, x: Tensor, residual: str) -> Tensor:
    values = block.ls_1(block.attn.out_proj(block.attn.project_value(block.ln_1(x))))
    x = (x[:, :1] if residual == "cls" else x) + values
    return x + block.ls_2(block.mlp(block.ln_2(x)))


def _to_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Lays out patches, (B, 1 + H W, width) to (B, width, H, W), without the class token."""
    return tokens[:, 1:].transpose(1, 2).unflatten(2, grid)
