"""From logits of vocabulary entries to scores of output classes, and to maps of full size.

Shapes: B images, K entries, classes of the vocabulary, h x w low resolution, H x W the image.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from escnet_d2.structures import Vocabulary

# Classes resized to the size of the image at a time, one by one in images of more pixels than that,
# and pixels compared at a time.
_LABEL_MAP_CHUNK = 8
_LARGE_IMAGE = 2**25
_STRIP = 2**20


def merge_entries(logits: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Takes the best entry of each class: (B, K, h, w) to (B, scored classes, h, w).

    A background by threshold has no entry and no logit: see :func:`class_scores`.
    """
    if vocabulary.is_one_to_one:
        return logits
    owners = torch.tensor(vocabulary.entry_classes, device=logits.device)
    return best_of_owners(logits, owners, max(vocabulary.entry_classes) + 1)


def best_of_owners(logits: Tensor, owners: Tensor, number: int) -> Tensor:
    """Takes the highest of the maps that have the same owner, (B, K, h, w) to (B, number, h, w).

    Args:
        logits: of K entries.
        owners: (K,), 0 to ``number`` - 1, each at least once.
        number: of owners.
    """
    merged = logits.new_full((logits.shape[0], number, *logits.shape[2:]), float("-inf"))
    index = owners.view(1, -1, 1, 1).expand_as(logits)
    return merged.scatter_reduce(1, index, logits, reduce="amax")


def class_scores(logits: Tensor, vocabulary: Vocabulary, loss: str) -> Tensor:
    """Scores all output classes in [0, 1]: (B, classes, h, w), float32.

    A sigmoid per class, or a softmax over the classes, as in training. A background by threshold
    scores its threshold everywhere, so that it wins where all classes stay below.

    Args:
        logits: of the vocabulary's entries, (B, K, h, w).
        vocabulary: says which entries belong to which class.
        loss: the training loss, "bce" or "ce".
    """
    merged = merge_entries(logits.float(), vocabulary)
    scores = merged.sigmoid() if loss == "bce" else merged.softmax(dim=1)
    if vocabulary.background_threshold is not None:
        background = torch.full_like(scores[:, :1], vocabulary.background_threshold)
        scores = torch.cat([scores, background], dim=1)
    return scores


def resize_scores(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes bilinearly, (classes, h, w) to (classes, H, W); scores stay in [0, 1]."""
    resized = F.interpolate(
        scores.unsqueeze(0), size=tuple(size), mode="bilinear", align_corners=False
    )
    return resized.squeeze(0)


def label_map(scores: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Takes the arg-max of :func:`resize_scores` without holding all classes at full size.

    Args:
        scores: (classes, h, w).
        size: (H, W) of the result.

    Returns:
        Labels, int32 (H, W), and their scores, float32 (H, W). Ties go to the lower class.
    """
    # A bilinear map lies between its corners' extremes: a class whose highest score is below some
    # other class's lowest can win nowhere.
    peak, floor = scores.amax(dim=(1, 2)), scores.amin(dim=(1, 2)).max()
    candidates = (peak >= floor).nonzero().squeeze(1)
    chunk = _LABEL_MAP_CHUNK if size[0] * size[1] <= _LARGE_IMAGE else 1
    best = scores.new_full(size, float("-inf"))
    # Of a photo with 144 megapixels even these two maps are large.
    dtype = torch.uint8 if len(scores) <= 256 else torch.int32
    labels = torch.zeros(size, dtype=dtype, device=scores.device)
    for part in candidates.split(chunk):
        _keep_best(best, labels, resize_scores(scores[part], size), part.to(dtype))
    return labels.int(), best


def _keep_best(best: Tensor, labels: Tensor, scores: Tensor, classes: Tensor) -> None:
    """Updates both maps (H, W) in place by the scores (classes, H, W) of further classes."""
    height, width = best.shape
    step = max(1, _STRIP // width)
    for rows in (slice(top, top + step) for top in range(0, height, step)):
        score, index = scores[:, rows].max(dim=0)
        better = score > best[rows]
        best[rows] = torch.where(better, score, best[rows])
        labels[rows] = torch.where(better, classes[index], labels[rows])
