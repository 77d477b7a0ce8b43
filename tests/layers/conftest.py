"""Maps that k-means implementations must agree on."""

from __future__ import annotations

import pytest
import torch


def make_hard_maps(height, width, dtype=torch.float32):
    """Scores and masks (9, H, W): one map for each way in which masks and scores are special."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    blob = (x - width // 3) ** 2 + (y - height // 2) ** 2 <= max(2, height * width // 12)
    few = torch.zeros(height, width, dtype=torch.bool)
    few.view(-1)[torch.randperm(height * width)[:3]] = True
    masks = torch.stack(
        [
            torch.zeros_like(few),
            few,
            torch.ones_like(few),
            x % 4 == 1,
            y % 5 == 2,
            (x + y) % 7 < 2,
            (x == y) | (x + y == min(height, width) - 1),
            blob,
            torch.rand(height, width) < 0.4,
        ]
    )
    scores = torch.randn(len(masks), height, width)
    scores[2] = scores[2].mul(2).round()  # many ties
    scores[4] = 0.0
    scores[4, ::2] = -0.0
    scores[5][torch.rand(height, width) < 0.3] = float("nan")
    scores[6] = float("nan")
    scores[7][torch.rand(height, width) < 0.3] = float("inf")
    scores[8][torch.rand(height, width) < 0.5] = -float("inf")
    return scores.to(dtype), masks


@pytest.fixture
def hard_maps():
    return make_hard_maps
