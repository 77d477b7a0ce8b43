"""Views of an image that a model scores: the whole image, sliding windows, or both.

ESC-Net places windows on the grid of CLIP's patches (:class:`PatchViews`), CAT-Seg's release on an
image that is squashed to one size (:class:`SquashedViews`).

Shapes: n views of one size, P pixels on a side of a patch.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, product

import torch
from detectron2.config import CfgNode
from torch import Tensor
from torch.nn import functional as F

from escnet_d2.config import check_at_least, check_choice, method_of
from escnet_d2.layers import MAX_SIDE

from .class_scores import resize_scores

# Score maps have four cells on a side of a patch.
CELLS_PER_PATCH = 4

# Of views (n, 3, h, w): class scores (n, classes, h', w') for PatchViews, logits for SquashedViews.
Predict = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ViewOptions:
    """Options of testing: MODEL.CLIP.ASPECT and the keys of windows in TEST.

    Attributes:
        aspect: MODEL.CLIP.ASPECT, of whole images.
        sliding_window: TEST.SLIDING_WINDOW.
        window_image_size: TEST.WINDOW_IMAGE_SIZE, (height, width) that images are resized to before
            windows are placed on them; (0, 0) leaves them as they are.
        window_size: TEST.WINDOW_SIZE, side of a window in pixels of that image; 0 is the side that
            CLIP sees.
        overlap: TEST.WINDOW_OVERLAP, share in [0, 1) of a window that overlaps its neighbor.
        global_view: TEST.WINDOW_GLOBAL_VIEW, average with the whole image.
        batch_size: TEST.WINDOW_BATCH_SIZE, windows per forward pass.
    """

    aspect: str = "squash"
    sliding_window: bool = False
    window_image_size: tuple[int, int] = (0, 0)
    window_size: int = 0
    overlap: float = 1 / 3
    global_view: bool = True
    batch_size: int = 8

    def __post_init__(self) -> None:
        check_choice("MODEL.CLIP.ASPECT", self.aspect, ("squash", "keep"))
        if not 0.0 <= self.overlap < 1.0:
            raise ValueError(f"TEST.WINDOW_OVERLAP must be in [0, 1), got {self.overlap}.")
        check_at_least("TEST.WINDOW_BATCH_SIZE", self.batch_size, 1)
        size = self.window_image_size
        if len(size) != 2 or min(size) < 0 or (min(size) == 0 and max(size) > 0):
            raise ValueError(
                f"TEST.WINDOW_IMAGE_SIZE must be (height, width) or (0, 0), got {size}."
            )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> ViewOptions:
        """Reads the keys, with the method's own sizes where they are 0."""
        method = method_of(cfg)
        image_size = tuple(cfg.TEST.WINDOW_IMAGE_SIZE)
        return cls(
            aspect=cfg.MODEL.CLIP.ASPECT,
            sliding_window=cfg.TEST.SLIDING_WINDOW,
            window_image_size=image_size if any(image_size) else method.window_image_size,
            window_size=cfg.TEST.WINDOW_SIZE or method.window_size,
            overlap=cfg.TEST.WINDOW_OVERLAP,
            global_view=cfg.TEST.WINDOW_GLOBAL_VIEW,
            batch_size=cfg.TEST.WINDOW_BATCH_SIZE,
        )


class PatchViews:
    """Whole images, and windows that start at whole patches.

    The cells of such windows fit together without resampling. Only the map of an image that ends
    within a cell is resampled, as a whole.
    """

    def __init__(self, options: ViewOptions, *, resolution: int, patch: int) -> None:
        """Checks sizes.

        Args:
            options: how images are tested.
            resolution: side of the square in pixels that CLIP sees.
            patch: P.

        Raises:
            ValueError: a side that is not whole patches, or too many of them; names the key.
        """
        window = options.window_size or resolution
        for key, side in (("MODEL.CLIP.RESOLUTION", resolution), ("TEST.WINDOW_SIZE", window)):
            if side % patch or not 1 <= side // patch <= MAX_SIDE:
                raise ValueError(
                    f"{key} must be a multiple of the patch size {patch}, 1 to {MAX_SIDE} patches; "
                    f"got {side}."
                )
        self.options = options
        self.resolution = resolution
        self.patch = patch
        self.window = window

    @classmethod
    def from_config(cls, cfg: CfgNode, patch: int) -> PatchViews:
        """Reads MODEL.CLIP.RESOLUTION and the options."""
        return cls(ViewOptions.from_config(cfg), resolution=cfg.MODEL.CLIP.RESOLUTION, patch=patch)

    def scores(self, images: list[Tensor], predict: Predict) -> list[Tensor]:
        """Scores the classes of images of any size, at four cells to a patch of each view.

        Args:
            images: normalized, (3, h, w).
            predict: class scores of views of one size, (n, classes, 4 h / P, 4 w / P).

        Returns:
            (classes, cells, cells) of each image.
        """
        if not self.options.sliding_window:
            return self._whole(images, predict)
        windows = [self.slide(image, predict) for image in images]
        if not self.options.global_view:
            return windows
        return [
            (window + resize_scores(whole, window.shape[1:])) / 2
            for window, whole in zip(windows, self._whole(images, predict))
        ]

    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns the size in pixels at which CLIP sees a whole image of this (height, width).

        The square, or under "keep" about its area at the image's aspect, in whole patches, at least
        one and at most MAX_SIDE on a side.
        """
        if self.options.aspect == "squash":
            return (self.resolution, self.resolution)
        side = self.resolution // self.patch
        height, width = size
        rows = min(max(1, round(side * (height / width) ** 0.5)), MAX_SIDE)
        columns = min(max(1, round(side * (width / height) ** 0.5)), MAX_SIDE)
        return (rows * self.patch, columns * self.patch)

    def _whole(self, images: list[Tensor], predict: Predict) -> list[Tensor]:
        """Scores one view of each image; those of one input size share a forward pass."""
        by_size = defaultdict(list)
        for index, image in enumerate(images):
            by_size[self.input_size(image.shape[1:])].append(index)
        scores: list[Tensor | None] = [None] * len(images)
        for size, indices in by_size.items():
            batch = torch.stack([resize_image(images[index], size) for index in indices])
            for index, score in zip(indices, predict(batch)):
                scores[index] = score
        return scores

    def slide(self, image: Tensor, predict: Predict) -> Tensor:
        """Averages overlapping windows of one image.

        The image is padded with zeros, the mean color, to whole patches and to at least one window;
        the padding is cut off again, a partial cell counted as one.
        """
        if any(self.options.window_image_size):
            image = resize_image(image, self.options.window_image_size)
        patch, window = self.patch, self.window
        side, cells = window // patch, CELLS_PER_PATCH
        height, width = image.shape[1:]
        rows, columns = (max(side, -(-extent // patch)) for extent in (height, width))
        padded = F.pad(image, (0, columns * patch - width, 0, rows * patch - height))
        stride = max(1, round(side * (1.0 - self.options.overlap)))
        corners = list(
            product(window_starts(rows, side, stride), window_starts(columns, side, stride))
        )
        views = (
            padded[:, r * patch : r * patch + window, c * patch : c * patch + window]
            for r, c in corners
        )
        scores = (s for batch in _batches(views, self.options.batch_size) for s in predict(batch))
        mosaic = _average(
            scores, [(r * cells, c * cells) for r, c in corners], (rows * cells, columns * cells)
        )
        return _fit(mosaic, (height, width), patch / cells)


class SquashedViews:
    """Images squashed to one size, as the CAT-Seg release sees them, whole or window by window.

    Windows are placed by pixels, CLIP sees them at its resolution, and their logits are brought to
    the size of the window before the sigmoid.
    """

    def __init__(
        self, options: ViewOptions, *, resolution: tuple[int, int], size_divisibility: int = 1
    ) -> None:
        """Checks sizes.

        Args:
            options: how images are tested.
            resolution: (height, width) that CLIP sees.
            size_divisibility: whole images are padded to a multiple of this before they are
                squashed; 1 or less does not.

        Raises:
            ValueError: windows larger than their image; names the keys.
        """
        window, image_size = options.window_size, options.window_image_size
        smallest = 1 if options.sliding_window else 0
        if not smallest <= window <= min(image_size):
            raise ValueError(
                "TEST.WINDOW_SIZE must fit into TEST.WINDOW_IMAGE_SIZE, "
                f"got {window} and {image_size}."
            )
        self.options = options
        self.resolution = resolution
        self.size_divisibility = size_divisibility

    @classmethod
    def from_config(cls, cfg: CfgNode, *, stride: int, with_windows: bool = True) -> SquashedViews:
        """Reads sizes and options for CLIP's features of a ``stride`` in pixels."""
        rows, columns = feature_grid(cfg)
        return cls(
            ViewOptions.from_config(cfg) if with_windows else ViewOptions(),
            resolution=(rows * stride, columns * stride),
            size_divisibility=cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY,
        )

    def squash(self, images: list[Tensor], *, pad: bool = True) -> Tensor:
        """Pads each image to whole multiples and resizes it, without antialiasing: (n, 3, h, w)."""
        return torch.cat([self._squash(x, pad) for x in images])

    def squashed_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns the (height, width) that an image is padded to before it is resized."""
        step = max(self.size_divisibility, 1)
        return tuple(side + -side % step for side in size)

    def _squash(self, image: Tensor, pad: bool) -> Tensor:
        size = tuple(image.shape[1:])
        height, width = self.squashed_size(size) if pad else size
        padded = F.pad(image, (0, width - size[1], 0, height - size[0]))
        return _resize(padded[None], self.resolution)

    def scores(self, images: list[Tensor], predict: Predict) -> list[Tensor]:
        """Scores images of any size, in [0, 1].

        Args:
            images: normalized, (3, h, w).
            predict: logits of views, (n, 3, *resolution) to (n, K, h', w').

        Returns:
            (K, h', w') of each image, (K, *window_image_size) from windows.
        """
        if self.options.sliding_window:
            return [self.slide(image, predict) for image in images]
        return list(predict(self.squash(images)).float().sigmoid())

    def slide(self, image: Tensor, predict: Predict) -> Tensor:
        """Averages overlapping windows of one image, and those with the whole image."""
        size, window = self.options.window_image_size, self.options.window_size
        squashed = _resize(image[None], size)[0]
        stride = max(1, int(window * (1 - self.options.overlap)))
        corners = list(product(*(window_starts(extent, window, stride) for extent in size)))
        views = [squashed[:, top : top + window, left : left + window] for top, left in corners]
        if self.options.global_view:
            views.append(_resize(image[None], (window, window))[0])
        scores = (
            _resize(logits.float()[None], (window, window)).sigmoid()[0]
            for batch in _batches(views, self.options.batch_size)
            for logits in predict(_resize(batch, self.resolution))
        )
        windows = _average(scores, corners, size)
        if not self.options.global_view:
            return windows
        return (windows + _resize(next(scores)[None], size)[0]) / 2


def feature_grid(cfg: CfgNode) -> tuple[int, int]:
    """Reads MODEL.SEM_SEG_HEAD.FEATURE_RESOLUTION, (rows, columns); ValueError for all else."""
    grid = tuple(cfg.MODEL.SEM_SEG_HEAD.FEATURE_RESOLUTION)
    if len(grid) != 2 or min(grid) < 1:
        raise ValueError(
            "MODEL.SEM_SEG_HEAD.FEATURE_RESOLUTION must be (rows, columns) of 1 or more, "
            f"got {list(grid)}."
        )
    return grid


def window_starts(extent: int, window: int, stride: int) -> list[int]:
    """Places windows along an axis; where they do not fit, one more ends at the border.

    Args:
        extent: of the axis, at least ``window``.
        window: extent of a window.
        stride: from one window to the next.
    """
    last = extent - window
    return [*range(0, last, stride), last]


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes (3, h, w) to (3, *size), antialiased since photos are mostly shrunk."""
    size = tuple(size)
    if image.shape[1:] == size:
        return image
    resized = F.interpolate(
        image.unsqueeze(0), size=size, mode="bilinear", align_corners=False, antialias=True
    )
    return resized.squeeze(0)


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes (n, C, h, w) to (n, C, *size), without antialiasing as in the releases."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def _batches(views: Iterator[Tensor], size: int) -> Iterator[Tensor]:
    views = iter(views)
    while batch := list(islice(views, size)):
        yield torch.stack(batch)


def _average(
    scores: Iterator[Tensor], corners: list[tuple[int, int]], size: tuple[int, int]
) -> Tensor:
    """Averages the windows (classes, s, s) at each place of a map (classes, *size).

    Takes one window from ``scores`` for each corner and leaves the rest.
    """
    total = count = None
    for (top, left), window in zip(corners, scores):
        if total is None:
            total, count = window.new_zeros(len(window), *size), window.new_zeros(size)
        place = (..., slice(top, top + window.shape[1]), slice(left, left + window.shape[2]))
        total[place] += window
        count[place] += 1
    return total / count


def _fit(scores: Tensor, size: tuple[int, int], cell: float) -> Tensor:
    """Cuts a map off at an image's border, which may run through the last row or column of cells.

    A score map has equal cells, so that those of an image that is not a whole number of them are a
    little smaller; merely cut off, all scores would be drawn towards the border.
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
