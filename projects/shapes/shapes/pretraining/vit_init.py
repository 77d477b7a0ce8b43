"""An initialization from which a small ViT learns to look at neighbors.

A plain ViT has to learn which patches lie beside each other; with little data that takes most of
the training. Sinusoidal positions, and queries that agree with keys, start it with attention to
what is near and alike (mimetic initialization, arXiv 2305.09828).
"""

from __future__ import annotations

import math

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

# Wave lengths of the positions reach from one patch to this many.
_MAX_WAVE_LENGTH = 100.0
# Strength of the agreement of queries and keys.
_AGREEMENT = 0.7


@torch.no_grad()
def initialize_vit(visual: VisionTransformer) -> None:
    """Sets position embeddings, queries and keys of an image tower with split attention.

    Args:
        visual: open_clip's tower, changed in place; a width that is a multiple of 4.
    """
    positions = visual.positional_embedding
    positions[1:] = sinusoidal_positions(tuple(visual.grid_size), positions.shape[1])
    positions[0] = 0
    for block in visual.transformer.resblocks:
        attention = block.attn
        dim = attention.q_proj_weight.shape[1]
        for rows in torch.arange(dim).chunk(attention.num_heads):
            # An orthonormal basis of a random subspace for each head.
            basis = nn.init.orthogonal_(torch.empty(len(rows), dim)) * math.sqrt(_AGREEMENT)
            attention.q_proj_weight[rows] = basis
            attention.k_proj_weight[rows] = basis


def sinusoidal_positions(grid: tuple[int, int], width: int) -> Tensor:
    """Sines and cosines of row and column, (H W, width)."""
    frequencies = _MAX_WAVE_LENGTH ** (-torch.arange(width // 4) / (width // 4))
    rows, columns = torch.meshgrid(*(torch.arange(side).float() for side in grid), indexing="ij")
    angles = [axis.flatten()[:, None] * frequencies for axis in (rows, columns)]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)
