"""The layers of CAT-Seg and SED against plain computations that repeat, pad and loop."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from escnet_d2.layers.class_subsets import (
    PRUNED_LOGIT,
    likeliest_classes,
    restore_classes,
    take_classes,
)
from escnet_d2.layers.class_transformer import ClassTransformer
from escnet_d2.layers.guided_linear import guided_linear
from escnet_d2.layers.guided_upsampling import DoubleConv
from escnet_d2.layers.swin_pair import SwinPair


def randomize(module):
    """Nothing stays at zero or one, so that everything shows."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def test_guidance_is_as_if_concatenated():
    layer = nn.Linear(5 + 3, 4)
    x, guidance = torch.randn(2, 6, 5), torch.randn(2, 1, 3)
    joined = torch.cat([x, guidance.expand(-1, 6, -1)], dim=-1)
    torch.testing.assert_close(guided_linear(layer, x, guidance), layer(joined))
    plain = nn.Linear(5, 4)
    torch.testing.assert_close(guided_linear(plain, x, None), plain(x))


def plain_class_transformer(layer, x, text, pad_length, attention_type, pooling):
    """One image and one patch at a time, every padding token written out."""
    B, K, H, W, C = x.shape
    heads = layer.num_heads
    pooled = F.avg_pool2d(x.flatten(0, 1).permute(0, 3, 1, 2), pooling)
    pooled = pooled.permute(0, 2, 3, 1).unflatten(0, (B, K))
    out = torch.empty_like(pooled)
    for b in range(B):
        for i in range(pooled.shape[2]):
            for j in range(pooled.shape[3]):
                tokens, guidance = pooled[b, :, i, j], text[b] if text is not None else None
                if pad_length > K:
                    copies = pad_length - K
                    tokens = torch.cat([tokens, layer.padding_tokens[0].expand(copies, -1)])
                    if guidance is not None:
                        pad = layer.padding_guidance[0].expand(copies, -1)
                        guidance = torch.cat([guidance, pad])
                normed = layer.norm1(tokens)
                joined = normed if guidance is None else torch.cat([normed, guidance], dim=-1)
                q, k = layer.attention.q(joined), layer.attention.k(joined)
                v = layer.attention.v(normed)
                parts = []
                for q_h, k_h, v_h in zip(*(t.chunk(heads, dim=-1) for t in (q, k, v))):
                    if attention_type == "linear":
                        weight = (F.elu(q_h) + 1) @ (F.elu(k_h) + 1).t()
                        weight = weight / (weight.sum(dim=1, keepdim=True) + 1e-6)
                    else:
                        weight = (q_h @ k_h.t() / q_h.shape[-1] ** 0.5).softmax(dim=1)
                    parts.append(weight @ v_h)
                tokens = tokens + torch.cat(parts, dim=-1)
                tokens = tokens + layer.MLP(layer.norm2(tokens))
                out[b, :, i, j] = tokens[:K]
    maps = out.flatten(0, 1).permute(0, 3, 1, 2)
    maps = F.interpolate(maps, size=(H, W), mode="bilinear", align_corners=True)
    return x + maps.permute(0, 2, 3, 1).unflatten(0, (B, K))


@pytest.mark.parametrize("attention_type", ["linear", "full"])
@pytest.mark.parametrize(
    ("num_classes", "pad_length", "pooling", "text_dim"),
    [(3, 7, (2, 2), 4), (3, 7, (1, 1), 0), (7, 7, (2, 1), 4), (9, 7, (1, 1), 4), (3, 0, (1, 1), 4)],
)
def test_class_transformer_equals_padding_with_copies(
    attention_type, num_classes, pad_length, pooling, text_dim
):
    layer = randomize(
        ClassTransformer(
            dim=8,
            text_dim=text_dim,
            num_heads=2,
            pooling=pooling,
            attention_type=attention_type,
            pad_length=pad_length,
        )
    )
    x = torch.randn(2, num_classes, 4, 6, 8)
    text = torch.randn(2, num_classes, text_dim) if text_dim else None
    expected = plain_class_transformer(layer, x, text, pad_length, attention_type, pooling)
    torch.testing.assert_close(layer(x, text), expected, rtol=1e-4, atol=1e-5)
    # By rows of patches.
    torch.testing.assert_close(layer(x, text, 1), layer(x, text), rtol=1e-5, atol=1e-6)


def plain_swin_block(block, x, guidance, shift, window):
    """Every patch attends to those of its window that belong to the same piece of the map."""
    H, W, C = x.shape
    normed = block.norm1(x)
    joined = normed if guidance is None else torch.cat([normed, guidance], dim=-1)
    q, k, v = block.attn.q(joined), block.attn.k(joined), block.attn.v(normed)
    heads = block.num_heads
    attended = torch.empty_like(x)
    for i in range(H):
        for j in range(W):
            # The window of a patch after the map was rolled up and left by the shift.
            row, column = (i - shift) % H // window, (j - shift) % W // window
            inside = [
                (a, b)
                for a in range(H)
                for b in range(W)
                if ((a - shift) % H // window, (b - shift) % W // window) == (row, column)
                # Not across the border that the roll joins.
                and (a < shift) == (i < shift)
                and (b < shift) == (j < shift)
            ]
            rows, columns = zip(*inside)
            parts = []
            for h in range(heads):
                piece = slice(h * C // heads, (h + 1) * C // heads)
                logits = k[rows, columns, piece] @ q[i, j, piece] / (C // heads) ** 0.5
                parts.append(logits.softmax(dim=0) @ v[rows, columns, piece])
            attended[i, j] = torch.cat(parts)
    x = x + block.attn.proj(attended)
    return x + block.mlp(block.norm2(x))


@pytest.mark.parametrize("guidance_dim", [3, 0])
@pytest.mark.parametrize(("size", "window", "shift"), [(6, 3, 1), (8, 4, 2), (4, 4, 0)])
def test_swin_pair_equals_plain_attention(guidance_dim, size, window, shift):
    pair = randomize(
        SwinPair(
            dim=8, guidance_dim=guidance_dim, grid=(size, size), num_heads=2, window_size=window
        )
    )
    x = torch.randn(1, 2, size, size, 8)
    guidance = torch.randn(1, size, size, guidance_dim) if guidance_dim else None
    got = pair(x, guidance)
    normed = pair.guidance_norm(guidance)[0] if guidance_dim else None
    for index in range(2):
        expected = plain_swin_block(pair.block_1, x[0, index], normed, 0, window)
        expected = plain_swin_block(pair.block_2, expected, normed, shift, window)
        torch.testing.assert_close(got[0, index], expected, rtol=1e-4, atol=1e-4)
    masks = [name for name in pair.state_dict() if name.endswith("attn_mask")]
    assert masks == (["block_2.attn_mask"] if shift else [])


def test_mask_in_checkpoints_is_minus_100_between_pieces():
    pair = SwinPair(dim=8, guidance_dim=0, grid=(10, 10), num_heads=2, window_size=5)
    mask = pair.block_2.attn_mask
    assert mask.shape == (4, 25, 25)
    assert set(mask.unique().tolist()) == {-100.0, 0.0}
    # The first window holds one piece, the last one four: of 3 x 3, 3 x 2, 2 x 3 and 2 x 2 patches.
    assert not mask[0].any()
    assert (mask[3] == 0).sum() == 9**2 + 6**2 + 6**2 + 4**2


def test_double_conv_of_parts_is_that_of_their_concatenation():
    layer = randomize(DoubleConv(4 + 3 + 2, 32))
    own, shared, other = (
        torch.randn(2, 3, 4, 5, 6),
        torch.randn(2, 1, 3, 5, 6),
        torch.randn(2, 3, 2, 5, 6),
    )
    joined = torch.cat([own, shared.expand(-1, 3, -1, -1, -1), other], dim=2)
    expected = layer.double_conv(joined.flatten(0, 1)).unflatten(0, (2, 3))
    torch.testing.assert_close(layer([own, shared, other]), expected, rtol=1e-4, atol=1e-4)
    assert layer.double_conv[1].num_groups == 2
    assert DoubleConv(4, 8).double_conv[1].num_groups == 1


def test_pruned_classes_come_back_in_place():
    correlation = torch.randn(2, 1, 5, 2, 3)
    best = correlation.amax(dim=(1, 3, 4))
    kept = likeliest_classes(best, 2)
    assert (kept[:, 0] < kept[:, 1]).all()
    taken = take_classes(correlation, kept)
    restored = restore_classes(taken[:, 0], kept, 5)
    for b in range(2):
        expected = set(best[b].argsort(descending=True)[:2].tolist())
        assert set(kept[b].tolist()) == expected
        for k in range(5):
            if k in expected:
                torch.testing.assert_close(restored[b, k], correlation[b, 0, k])
            else:
                assert (restored[b, k] == PRUNED_LOGIT).all()
