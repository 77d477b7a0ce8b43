"""The start of the tiny CLIP's image tower: patches look at what is near and alike."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from escnet_d2.modeling.clip.encoder import build_clip_model
from escnet_d2.projects.shapes.pretraining.clip_start import initialize_vit, sinusoidal_positions


def test_positions_are_alike_where_they_are_near():
    positions = F.normalize(sinusoidal_positions((16, 16), 128), dim=1)
    similarity = (positions @ positions.t())[5 * 16 + 7].view(16, 16)
    assert similarity.argmax() == 5 * 16 + 7
    for near, far in (((5, 8), (5, 10)), ((6, 7), (9, 7)), ((6, 8), (12, 14))):
        assert similarity[near] > similarity[far]
    torch.testing.assert_close(similarity[5, 6], similarity[5, 8])


def test_queries_agree_with_keys():
    visual = build_clip_model("escnet_shapes", "random").visual
    before = visual.transformer.resblocks[0].attn.v_proj_weight.clone()
    initialize_vit(visual)
    for block in visual.transformer.resblocks:
        assert torch.equal(block.attn.q_proj_weight, block.attn.k_proj_weight)
        # Each head's rows are orthogonal: its logit is a product in a subspace.
        head = block.attn.q_proj_weight[:32]
        torch.testing.assert_close(head @ head.t(), 0.7 * torch.eye(32), atol=1e-5, rtol=0)
    assert torch.equal(visual.transformer.resblocks[0].attn.v_proj_weight, before)
    torch.testing.assert_close(visual.positional_embedding[1:], sinusoidal_positions((24, 24), 128))
