"""Computing a part of the classes: some at a time, the likeliest ones, or a random sample.

Shapes: B images, P templates, K classes, K' classes kept, H x W patches.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

# Logit of a class that was pruned: its probability is 0 in float32.
PRUNED_LOGIT = -100.0


def likeliest_classes(best: Tensor, keep: int) -> Tensor:
    """Picks the ``keep`` classes with the highest values, (B, K) to (B, keep), ascending."""
    return best.topk(keep, dim=1).indices.sort(dim=1).values


# Side in patches of the windows that vote, and how many classes each votes for.
_VOTE_WINDOW, _VOTES = 5, 3


def voted_classes(maps: Tensor, share: float, limit: int) -> Tensor:
    """Picks the classes with the most votes that together have a share of all votes.

    Around each patch, a window of 5 x 5 votes for the three classes with the highest means. Equal
    numbers of votes are ordered by the highest of these means, never by the order of the classes.

    Args:
        maps: (B, K, H, W), cosines.
        share: of all votes, in (0, 1].
        limit: keep at most this many.

    Returns:
        Ascending indices, (B, K'): as many for all images as the one that needs most.
    """
    padding = _VOTE_WINDOW // 2
    means = F.avg_pool2d(maps, _VOTE_WINDOW, stride=1, padding=padding, count_include_pad=False)
    last = means.topk(min(_VOTES, maps.shape[1]), dim=1).values[:, -1:]
    votes = (means >= last).sum(dim=(2, 3)).double()
    # Means are -1 to 1: together less than one vote.
    order = votes + (means.amax(dim=(2, 3)) + 1) / 4
    most = votes.sort(dim=1, descending=True).values
    before = most.cumsum(dim=1) - most
    needed = (before < share * votes.sum(dim=1, keepdim=True)).sum(dim=1)
    return likeliest_classes(order, min(int(needed.max()), limit))


def take_classes(correlation: Tensor, classes: Tensor) -> Tensor:
    """Keeps some classes, by indices (B, K'): (B, P, K, H, W) to (B, P, K', H, W)."""
    if classes.shape[1] == correlation.shape[2]:
        return correlation
    index = classes[:, None, :, None, None].expand(
        -1, correlation.shape[1], -1, *correlation.shape[3:]
    )
    return correlation.gather(2, index)


def restore_classes(logits: Tensor, classes: Tensor, num_classes: int) -> Tensor:
    """Undoes the pruning, (B, K', h, w) to (B, K, h, w); pruned classes get PRUNED_LOGIT."""
    if classes.shape[1] == num_classes:
        return logits
    full = logits.new_full((logits.shape[0], num_classes, *logits.shape[2:]), PRUNED_LOGIT)
    return full.scatter(1, classes[:, :, None, None].expand_as(logits), logits)


def class_chunks(num_classes: int, chunk_size: int) -> list[slice]:
    """Cuts ``range(num_classes)`` into slices, in order.

    Args:
        num_classes: K, 1 or more.
        chunk_size: classes per slice; 0 means all in one.
    """
    step = chunk_size if chunk_size > 0 else max(num_classes, 1)
    return [slice(start, min(start + step, num_classes)) for start in range(0, num_classes, step)]


def map_chunks(
    function: Callable[[Tensor], Tensor], x: Tensor, chunk_size: int, dim: int = 1
) -> Tensor:
    """Computes ``function(x)`` some indices of a dimension at a time.

    Args:
        function: of parts of ``x``; keeps their size along ``dim``.
        x: any shape.
        chunk_size: indices at a time, 0 for all.
        dim: the classes by default.

    Returns:
        What ``function`` makes of all of ``x``, contiguous.
    """
    if not 0 < chunk_size < x.shape[dim]:
        return function(x).contiguous()
    parts = x.split(chunk_size, dim)
    if torch.is_grad_enabled():
        return torch.cat([function(part) for part in parts], dim)
    # A result goes to its place while the cache has it, and its memory to the next one.
    out = None
    for index, part in enumerate(parts):
        result = function(part)
        if out is None:
            shape = list(result.shape)
            shape[dim] = x.shape[dim]
            out = result.new_empty(shape)
        out.narrow(dim, index * chunk_size, part.shape[dim]).copy_(result)
    return out


def map_rows(function: Callable[[Tensor], Tensor], x: Tensor, chunk_size: int) -> Tensor:
    """Computes ``function(x)`` some rows of patches at a time, with the memory of some classes.

    Where the patches do not meet, all classes of a few of them are the better chunk.

    Args:
        function: of parts of ``x``, (B, K, rows, W, C).
        x: (B, K, H, W, C).
        chunk_size: number of classes; 0, or K and more, for all rows.
    """
    K, H = x.shape[1:3]
    return map_chunks(function, x, max(chunk_size * H // K, 1) if 0 < chunk_size < K else 0, dim=2)


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
