"""CAT-Seg's sliding window: over the image squashed to one size, window by window as logits.

Unlike :mod:`escnet_d2.modeling.sliding_window`, windows are placed by pixels, what CLIP sees of
them may have another size, and logits are brought to the size of the window before the sigmoid.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def squashed_window_scores(
    image: Tensor,
    predict: Callable[[Tensor], Tensor],
    *,
    image_size: tuple[int, int],
    window: int,
    overlap: float,
    resolution: tuple[int, int],
    global_view: bool,
    batch_size: int,
) -> Tensor:
    """Scores of an image from overlapping windows, averaged with those of the whole image.

    Args:
        image: normalised, (3, h, w).
        predict: logits of what CLIP sees, (n, 3, *resolution) to (n, K, h', w').
        image_size: (height, width) that the image is squashed to.
        window: side of a window in pixels of the squashed image.
        overlap: share in [0, 1) of a window that overlaps its neighbour.
        resolution: (height, width) that CLIP sees.
        global_view: average with the whole image, squashed to a window.
        batch_size: windows per call of ``predict``.

    Returns:
        Scores in [0, 1], (K, *image_size).
    """
    squashed = _resize(image.unsqueeze(0), image_size)[0]
    stride = max(1, int(window * (1 - overlap)))
    corners = [
        (top, left)
        for top in _starts(image_size[0], window, stride)
        for left in _starts(image_size[1], window, stride)
    ]
    views = [squashed[:, top : top + window, left : left + window] for top, left in corners]
    if global_view:
        views.append(_resize(image.unsqueeze(0), (window, window))[0])

    total = whole = None
    count = squashed.new_zeros(image_size)
    for start in range(0, len(views), batch_size):
        batch = torch.stack(views[start : start + batch_size])
        for index, logits in enumerate(predict(_resize(batch, resolution)), start=start):
            scores = _resize(logits.float().unsqueeze(0), (window, window)).sigmoid()
            if index == len(corners):
                whole = _resize(scores, image_size)[0]
                continue
            if total is None:
                total = scores.new_zeros(scores.shape[1], *image_size)
            top, left = corners[index]
            place = (slice(top, top + window), slice(left, left + window))
            total[(slice(None), *place)] += scores[0]
            count[place] += 1
    total /= count
    return total if whole is None else (total + whole) / 2


def _starts(extent: int, window: int, stride: int) -> list[int]:
    """First pixel of each window; where they do not fit, one more ends at the border."""
    starts = list(range(0, extent - window + 1, stride))
    return starts if starts[-1] + window == extent else [*starts, extent - window]


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
