"""Sliding windows on the grid of CLIP's patches.

Windows start at whole patches, so that their predictions (four cells to a patch) fit together
without resampling. Only the map of an image that ends within a cell is resampled, as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

CELLS_PER_PATCH = 4


def window_starts(extent: int, window: int, overlap: float) -> list[int]:
    """First patch of each window along one axis; the last window ends at the border.

    Args:
        extent: patches along the axis, at least ``window``.
        window: patches of a window.
        overlap: share of a window that it has in common with the next, in [0, 1).
    """
    if extent == window:
        return [0]
    stride = max(1, round(window * (1.0 - overlap)))
    starts = list(range(0, extent - window, stride))
    return [*starts, extent - window]


def sliding_window_scores(
    image: Tensor,
    predict: Callable[[Tensor], Tensor],
    *,
    window: int,
    patch: int,
    overlap: float,
    batch_size: int,
) -> Tensor:
    """Scores of an image of any size from windows of one size; overlaps are averaged.

    Args:
        image: normalised, (3, h, w). Padded with zeros, the mean colour, to whole patches and to at
            least one window; the padding is cut off again.
        predict: class scores of windows, (n, 3, s, s) to (n, classes, m, m), with 4 cells to a
            patch.
        window: side s of a window in pixels, a multiple of ``patch``.
        patch: side of a patch in pixels.
        overlap: share in [0, 1) of a window that overlaps its neighbour.
        batch_size: windows per call of ``predict``.

    Returns:
        (classes, cells, cells) that cover just the image, a partial cell counted as one.
    """
    height, width = image.shape[1:]
    side = window // patch
    rows, columns = (max(side, -(-extent // patch)) for extent in (height, width))
    padded = F.pad(image, (0, columns * patch - width, 0, rows * patch - height))
    corners = [
        (row, column)
        for row in window_starts(rows, side, overlap)
        for column in window_starts(columns, side, overlap)
    ]
    total = count = None
    for part in _batches(corners, batch_size):
        crops = torch.stack(
            [
                padded[:, r * patch : r * patch + window, c * patch : c * patch + window]
                for r, c in part
            ]
        )
        for (r, c), scores in zip(part, predict(crops)):
            if total is None:
                cells = (rows * CELLS_PER_PATCH, columns * CELLS_PER_PATCH)
                total = scores.new_zeros(len(scores), *cells)
                count = scores.new_zeros(cells)
            place = (
                slice(r * CELLS_PER_PATCH, (r + side) * CELLS_PER_PATCH),
                slice(c * CELLS_PER_PATCH, (c + side) * CELLS_PER_PATCH),
            )
            total[(slice(None), *place)] += scores
            count[place] += 1
    return _fit(total / count, (height, width), patch / CELLS_PER_PATCH)


def _fit(scores: Tensor, size: tuple[int, int], cell: float) -> Tensor:
    """Cuts a map off at an image's border, which may run through the last row or column of cells.

    A score map has equal cells, so that those of an image of no whole number of them are a little
    smaller; merely cut off, all scores would be drawn towards the border.
    """
    rows, columns = (math.ceil(extent / cell) for extent in size)
    scores = scores[:, :rows, :columns]
    y, x = size[0] / (rows * cell), size[1] / (columns * cell)
    if (y, x) == (1.0, 1.0):
        return scores
    # Coordinates run from -1 to 1; shrunk towards the upper left corner.
    shrink = scores.new_tensor([[[x, 0.0, x - 1.0], [0.0, y, y - 1.0]]])
    maps = scores.unsqueeze(0)
    # Half precision is too coarse for places on a large map.
    with torch.autocast(scores.device.type, enabled=False):
        places = F.affine_grid(shrink, list(maps.shape), align_corners=False)
        return F.grid_sample(maps, places, padding_mode="border", align_corners=False)[0]


def _batches(items: list, size: int) -> Iterator[list]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
