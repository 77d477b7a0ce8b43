"""Where masks come from, by MODEL.MASKS.SOURCE.

Shapes: M masks, P points, h x w pixels of the image.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
from detectron2.config import CfgNode
from segment_anything.utils.amg import build_point_grid
from torch import Tensor

from escnet_d2.config import check_at_least, check_choice
from escnet_d2.modeling.sam import build_full_sam

from .sam_masks import SamMasks


class MaskSource(ABC):
    """Finds the masks of an image; holds no parameters of the model.

    Attributes:
        needs_points: it wants points, which the model chooses.
        is_given: masks come with the image; the data mapper reads them.
    """

    needs_points = False
    is_given = False

    @abstractmethod
    def __call__(self, image: Tensor, given: Tensor, points: np.ndarray | None) -> Tensor:
        """Finds masks.

        Args:
            image: RGB, 0 to 255, (3, h, w).
            given: masks that came with the image, bool (M, h, w); none where M is 0.
            points: (P, 2), (x, y) in pixels, where :attr:`needs_points`.

        Returns:
            Bool (M, h, w).
        """


class SamAtPoints(MaskSource):
    """SAM at the points that the model chooses."""

    needs_points = True

    def __init__(self, sam_masks: SamMasks) -> None:
        """Takes SAM and its filters."""
        self._sam_masks = sam_masks

    def __call__(self, image: Tensor, given: Tensor, points: np.ndarray | None) -> Tensor:
        """Finds masks at these points."""
        del given
        return self._sam_masks(image, points)


class SamAtGrid(MaskSource):
    """SAM at a dense grid, as its automatic generator has it."""

    def __init__(self, sam_masks: SamMasks, side: int) -> None:
        """Takes SAM with its filters, and the number of points on each side."""
        self._sam_masks = sam_masks
        self._grid = build_point_grid(side)

    def __call__(self, image: Tensor, given: Tensor, points: np.ndarray | None) -> Tensor:
        """Finds masks at the grid."""
        del given, points
        return self._sam_masks(image, self._grid * np.array(image.shape[:0:-1]))


class GivenMasks(MaskSource):
    """Masks that the data mapper reads, of files or of label maps."""

    is_given = True

    def __call__(self, image: Tensor, given: Tensor, points: np.ndarray | None) -> Tensor:
        """Returns the masks that came with the image."""
        del image, points
        return given


def build_mask_source(cfg: CfgNode) -> MaskSource:
    """Builds MODEL.MASKS.SOURCE.

    Raises:
        ValueError: an unknown source, or a number out of its range; names the key.
        WeightsError: SAM's weights are missing, or of other sizes.
    """
    node = cfg.MODEL.MASKS
    check_choice("MODEL.MASKS.SOURCE", node.SOURCE, MASK_SOURCES)
    for key in ("NUM_POINTS", "GRID_SIDE", "POINTS_PER_BATCH"):
        check_at_least(f"MODEL.MASKS.{key}", node[key], 1)
    if not 0 <= node.NOISE <= 1:
        raise ValueError(f"MODEL.MASKS.NOISE must be in [0, 1], got {node.NOISE}.")
    return MASK_SOURCES[node.SOURCE](cfg)


def _build_sam_masks(cfg: CfgNode) -> SamMasks:
    node = cfg.MODEL.MASKS
    return SamMasks(
        build_full_sam(cfg.MODEL.SAM),
        multimask=node.MULTIMASK,
        iou_threshold=node.IOU_THRESHOLD,
        stability_threshold=node.STABILITY_THRESHOLD,
        nms_threshold=node.NMS_THRESHOLD,
        points_per_batch=node.POINTS_PER_BATCH,
    )


# By MODEL.MASKS.SOURCE; another one may be added.
MASK_SOURCES: dict[str, Callable[[CfgNode], MaskSource]] = {
    "sam": lambda cfg: SamAtPoints(_build_sam_masks(cfg)),
    "grid": lambda cfg: SamAtGrid(_build_sam_masks(cfg), cfg.MODEL.MASKS.GRID_SIDE),
    "file": lambda cfg: GivenMasks(),
    "truth": lambda cfg: GivenMasks(),
}
