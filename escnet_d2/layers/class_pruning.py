"""Computing only the likeliest classes of an image.

Shapes: B images, P templates, K classes, K' classes kept, H x W patches.
"""

from __future__ import annotations

from torch import Tensor

# Logit of a class that was pruned: its probability is 0 in float32.
PRUNED_LOGIT = -100.0


def likeliest_classes(best: Tensor, keep: int) -> Tensor:
    """The ``keep`` classes with the highest values, (B, K) to (B, keep), ascending."""
    return best.topk(keep, dim=1).indices.sort(dim=1).values


def take_classes(correlation: Tensor, classes: Tensor) -> Tensor:
    """(B, P, K, H, W) to (B, P, K', H, W), by indices (B, K')."""
    if classes.shape[1] == correlation.shape[2]:
        return correlation
    index = classes[:, None, :, None, None].expand(
        -1, correlation.shape[1], -1, *correlation.shape[3:]
    )
    return correlation.gather(2, index)


def restore_classes(logits: Tensor, classes: Tensor, num_classes: int) -> Tensor:
    """(B, K', h, w) to (B, K, h, w); classes that were pruned get PRUNED_LOGIT."""
    if classes.shape[1] == num_classes:
        return logits
    full = logits.new_full((len(logits), num_classes, *logits.shape[2:]), PRUNED_LOGIT)
    return full.scatter(1, classes[:, :, None, None].expand_as(logits), logits)
