"""Which entries of the vocabulary a training step computes."""

from __future__ import annotations

import torch
from torch import Tensor


def sample_entries(
    hardness: Tensor, present: Tensor | None, number: int, *, likeliest: int = 0
) -> Tensor:
    """Draws the entries that one training step looks at.

    Args:
        hardness: how easily each entry is mistaken for one in the image, (B, K).
        present: entries in the image, bool (B, K); None for none.
        number: how many entries; more where an image of the batch has more.
        likeliest: how many of the hardest entries testing keeps, 0 for all. The others never
            compete there, so they are drawn only where these do not suffice.

    Returns:
        Ascending indices, (B, K'): those present, then for half of the rest the hardest absent
        ones, and any others of the likeliest.
    """
    if present is None:
        present = torch.zeros_like(hardness, dtype=torch.bool)
    counts = present.sum(dim=1, keepdim=True)
    number = max(number, int(counts.max()))
    order = hardness.masked_fill(present, float("inf")).argsort(dim=1, descending=True)
    # Place of each entry in that order, those present first.
    place = order.argsort(dim=1)
    is_hard = place < counts + (number - counts) // 2
    rank = hardness.argsort(dim=1, descending=True).argsort(dim=1)
    competes = rank < (likeliest or hardness.shape[1])
    priority = (torch.rand_like(hardness) + competes).masked_fill(is_hard, 3.0)
    return priority.topk(number, dim=1).indices.sort(dim=1).values
