"""Losses of semantic segmentation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from escnet_d2.config import check_choice

LOSSES = ("bce", "ce")
UNLABELED_MODES = ("negative", "skip")


def check_loss_options(loss: str, unlabeled: str) -> None:
    """Refuses unknown values of MODEL.ESCNET.LOSS and MODEL.ESCNET.UNLABELLED (ValueError)."""
    check_choice("MODEL.ESCNET.LOSS", loss, LOSSES)
    if unlabeled not in UNLABELED_MODES:
        raise ValueError(
            f"MODEL.ESCNET.UNLABELLED must be auto or one of {', '.join(UNLABELED_MODES)}, "
            f"got {unlabeled!r}."
        )


def sem_seg_loss(
    logits: Tensor, target: Tensor, *, loss: str = "bce", unlabeled: str = "negative"
) -> Tensor:
    """Computes the loss of one image, or of images of one size, in float32.

    Args:
        logits: (B, K, H, W).
        target: int64 (B, H, W); values outside 0..K-1 are unlabeled.
        loss: "bce", the mean over pixels and classes of a sigmoid's binary cross-entropy (CAT-Seg),
            or "ce", the mean over labeled pixels of a softmax's cross-entropy.
        unlabeled: under "bce", unlabeled pixels are "negative" of every class, as in the CAT-Seg
            release, or "skip"; "ce" always skips them.

    Returns:
        Scalar; 0 with zero gradients where no pixel counts.
    """
    logits = logits.float()
    num_classes = logits.shape[1]
    labeled = (target >= 0) & (target < num_classes)
    if loss == "ce":
        target = torch.where(labeled, target, -1)
        total = F.cross_entropy(logits, target, ignore_index=-1, reduction="sum")
        return total / labeled.sum().clamp(min=1)
    # softplus(z) - z y: the sum over classes needs no one-hot target of K x H x W.
    per_pixel = F.softplus(logits).sum(dim=1)
    positive = logits.gather(1, target.where(labeled, 0).unsqueeze(1)).squeeze(1)
    per_pixel = per_pixel - positive * labeled
    if unlabeled == "negative":
        return per_pixel.mean() / num_classes
    return (per_pixel * labeled).sum() / (labeled.sum().clamp(min=1) * num_classes)


def resize_target(target: Tensor, size: tuple[int, int]) -> Tensor:
    """Reads labels at the centers of the cells of a coarser grid, (h, w) to (1, *size)."""
    resized = F.interpolate(target[None, None].double(), size=tuple(size), mode="nearest-exact")
    return resized[0].long()


def renumber_target(target: Tensor, classes: Tensor, number: int) -> Tensor:
    """Turns labels into their places among some of ``number`` classes, all other values into -1."""
    places = torch.full((number + 1,), -1, device=target.device)
    places[classes] = torch.arange(len(classes), device=target.device)
    return places[torch.where((target >= 0) & (target < number), target, number)]
