"""SAM's two-way attention layers, computed in the order that suits few tokens and many patches.

A cross-attention of ``segment_anything`` projects the image side, H W patches of C channels, on
its internal channels and back, once per prompt set. The products are associative: with few tokens
T it is cheaper to take the token side through the image's projection, head by head. For head h,
with rows as vectors,

- scores ``(q_h W_qh) (W_kh x + b_kh)`` become ``(q_h W_kh) x + q_h b_kh``: the folded tokens
  (h T, C) meet the image itself;
- values ``p (x W_v)`` become ``(p x) W_v``, and on the way back to the image ``(p v) W_o``
  becomes ``p (v W_o)``.

Where all prompt sets see one image, as in the first layer without mask prompts, its projections are
made once, and the tokens of all sets meet them together.

The modules of ``segment_anything`` keep the weights; the results equal calling them up to rounding.

Shapes: M prompt sets, T tokens, S = H W patches, C channels, h heads, I internal channels.
"""

from __future__ import annotations

import torch
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
from torch import Tensor, nn


def two_way_layer(
    layer: TwoWayAttentionBlock,
    queries: Tensor,
    keys: Tensor,
    query_pe: Tensor,
    key_pe: Tensor,
) -> tuple[Tensor, Tensor]:
    """Computes ``layer(queries, keys, query_pe, key_pe)``.

    Args:
        layer: holds the weights.
        queries: tokens, (M, T, C).
        keys: image, (M, S, C), or (S, C) for all sets.
        query_pe: position encodings of the tokens, (M, T, C).
        key_pe: position encodings of the image, (S, C).

    Returns:
        Tokens and image after the layer, (M, T, C) and (M, S, C).
    """
    if layer.skip_first_layer_pe:
        queries = layer.self_attn(q=queries, k=queries, v=queries)
    else:
        placed = queries + query_pe
        queries = queries + layer.self_attn(q=placed, k=placed, v=queries)
    queries = layer.norm1(queries)

    placed_keys = keys + key_pe  # Both cross-attentions see the image as it comes in.
    read = tokens_from_image(layer.cross_attn_token_to_image, queries + query_pe, placed_keys, keys)
    queries = layer.norm2(queries + read)
    queries = layer.norm3(queries + layer.mlp(queries))

    written = image_from_tokens(
        layer.cross_attn_image_to_token, placed_keys, queries + query_pe, queries
    )
    return queries, layer.norm4(keys + written)


def tokens_from_image(attention: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Computes ``attention(q, k, v)`` for tokens q (M, T, C), an image k, v ([M,] S, C)."""
    heads = attention.num_heads
    if k.dim() == 2:
        scores = _scores_of_one(attention.q_proj(q), attention.k_proj(k), heads)
        read = torch.bmm(scores.softmax(dim=-1), _by_head(attention.v_proj(v), heads))
        return attention.out_proj(read.transpose(0, 1).flatten(1)).unflatten(0, q.shape[:2])
    scores = _scores(attention.q_proj(q), attention.k_proj, k, heads)
    mixed = torch.bmm(scores.softmax(dim=-1), v)
    mixed = mixed.unflatten(1, (heads, -1)).transpose(0, 1).flatten(1, 2)
    weight = attention.v_proj.weight.unflatten(0, (heads, -1))
    out = torch.bmm(mixed, weight.transpose(1, 2)).transpose(0, 1).flatten(1)
    out = out.unflatten(0, q.shape[:2])
    # Attention weights sum to 1, so the bias of the values passes through.
    return attention.out_proj(out + attention.v_proj.bias)


def image_from_tokens(attention: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Computes ``attention(q, k, v)`` for an image q ([M,] S, C) and tokens k, v (M, T, C)."""
    heads = attention.num_heads
    tokens = attention.k_proj(k)
    if q.dim() == 2:
        scores = _scores_of_one(tokens, attention.q_proj(q), heads)
        scores = scores.unflatten(1, k.shape[:2]).transpose(0, 1).flatten(1, 2)
    else:
        scores = _scores(tokens, attention.q_proj, q, heads)
    # Over the tokens of each head. Patches stay innermost: a softmax over rows of T is slow.
    shares = scores.unflatten(1, (heads, -1)).softmax(dim=2).flatten(1, 2)
    values = _fold(attention.v_proj(v), attention.out_proj.weight.t(), heads)
    # The weights of each head sum to 1, so the heads bring the bias once in all.
    return torch.bmm(shares.transpose(1, 2), values + attention.out_proj.bias / heads)


def _scores_of_one(tokens: Tensor, image: Tensor, heads: int) -> Tensor:
    """Multiplies and scales projected tokens (M, T, I) with one image (S, I), (h, M T, S)."""
    tokens = tokens.flatten(0, 1) * (tokens.shape[-1] // heads) ** -0.5
    return torch.bmm(_by_head(tokens, heads), _by_head(image, heads).transpose(1, 2))


def _by_head(x: Tensor, heads: int) -> Tensor:
    """Puts heads first, (rows, I) to (h, rows, I / h)."""
    return x.unflatten(1, (heads, -1)).transpose(0, 1)


def _scores(tokens: Tensor, projection: nn.Linear, image: Tensor, heads: int) -> Tensor:
    """Multiplies and scales projected tokens (M, T, I) with ``projection(image)``, (M, h T, S)."""
    tokens = tokens * (tokens.shape[-1] // heads) ** -0.5
    folded = _fold(tokens, projection.weight, heads)
    bias = (tokens * projection.bias).unflatten(-1, (heads, -1)).sum(dim=-1)
    bias = bias.transpose(1, 2).flatten(1).unsqueeze(2)
    return torch.baddbmm(bias, folded, image.transpose(1, 2))


def _fold(tokens: Tensor, weight: Tensor, heads: int) -> Tensor:
    """Multiplies each head of tokens (M, T, I) by its rows of a weight (I, C): (M, h T, C)."""
    by_head = _by_head(tokens.flatten(0, 1), heads)
    folded = torch.bmm(by_head, weight.unflatten(0, (heads, -1)))
    return folded.unflatten(1, tokens.shape[:2]).transpose(0, 1).flatten(1, 2)
