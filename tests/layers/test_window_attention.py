import math

import pytest
import torch

from escnet_d2.layers import GuidedSwinBlock


def _block(shifted, window=4):
    return GuidedSwinBlock(
        dim=8, guidance_dim=6, num_heads=2, window_size=window, shifted=shifted, mlp_ratio=2.0
    ).double()


def naive(block, x, guidance):
    """Attention of each patch over those of its window, in loops."""
    B, K, H, W, C = x.shape
    h, w = min(block.window_size, H), min(block.window_size, W)
    sy = h // 2 if block.shifted and h < H else 0
    sx = w // 2 if block.shifted and w < W else 0

    def window(y, x):
        # Shifted windows are those of a grid moved by the shift; wrapped pieces stay apart.
        return ((y - sy) // h, (x - sx) // w)

    normed = block.norm1(x)
    q, k, v = block.qkv(normed).split(C, dim=-1)
    gq, gk = block.guidance_qk(guidance).unsqueeze(1).split(C, dim=-1)
    q, k = q + gq, k + gk
    out = torch.zeros_like(x)
    d = C // block.num_heads
    for y in range(H):
        for c in range(W):
            group = [(i, j) for i in range(H) for j in range(W) if window(i, j) == window(y, c)]
            rows, columns = [i for i, _ in group], [j for _, j in group]
            for head in range(block.num_heads):
                part = slice(head * d, (head + 1) * d)
                scores = (k[:, :, rows, columns, part] * q[:, :, y, c, part].unsqueeze(2)).sum(-1)
                weight = (scores / math.sqrt(d)).softmax(dim=2)
                mixed = (weight.unsqueeze(-1) * v[:, :, rows, columns, part]).sum(2)
                out[:, :, y, c, part] = mixed
    x = x + block.out(out)
    return x + block.mlp(block.norm2(x))


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 9), (3, 7), (6, 2), (1, 1)])
def test_equals_loops(shifted, height, width):
    block = _block(shifted)
    assert block.guidance_qk.bias is None
    x = torch.randn(2, 3, height, width, 8, dtype=torch.float64)
    guidance = torch.randn(2, height, width, 6, dtype=torch.float64)
    torch.testing.assert_close(block(x, *block.embed_guidance(guidance)), naive(block, x, guidance))


def test_classes_do_not_see_each_other():
    block = _block(True)
    x = torch.randn(1, 3, 8, 8, 8, dtype=torch.float64)
    guidance = torch.randn(1, 8, 8, 6, dtype=torch.float64)
    changed = x.clone()
    changed[:, 1] += 1
    before, after = (block(maps, *block.embed_guidance(guidance)) for maps in (x, changed))
    torch.testing.assert_close(before[:, [0, 2]], after[:, [0, 2]])
    assert not torch.allclose(before[:, 1], after[:, 1])
