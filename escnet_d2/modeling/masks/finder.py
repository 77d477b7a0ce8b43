"""The masks of an image, from whatever source, at points that CLIP chooses.

Shapes: M masks, K classes, H x W patches, h x w pixels of the image.
"""

from __future__ import annotations

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import Tensor

from .noise import break_masks
from .point_choice import cluster_points
from .sources import MaskSource, build_mask_source


class MaskFinder:
    """A mask source with what it is fed and what is done to its masks.

    Attributes:
        source: where masks come from.
        num_points: MODEL.MASKS.NUM_POINTS.
        noise: MODEL.MASKS.NOISE.
    """

    def __init__(self, source: MaskSource, *, num_points: int = 41, noise: float = 0.0) -> None:
        """Takes a source and the options."""
        self.source = source
        self.num_points = num_points
        self.noise = noise

    @classmethod
    def from_config(cls, cfg: CfgNode) -> MaskFinder:
        """Builds what MODEL.MASKS asks for; errors as of :func:`build_mask_source`."""
        node = cfg.MODEL.MASKS
        return cls(build_mask_source(cfg), num_points=node.NUM_POINTS, noise=node.NOISE)

    def attach(self, image: Tensor, inputs: dict) -> Tensor:
        """Makes masks that come with an image further channels of it.

        Args:
            image: (3, h, w).
            inputs: one item of a batch; ``masks``, bool (M, h, w), where the source is given them.

        Returns:
            (3 + M, h, w), M = 0 for other sources.

        Raises:
            ValueError: no masks, or masks of another size.
        """
        if not self.source.is_given:
            return image
        name = inputs.get("file_name", "An image")
        if "masks" not in inputs:
            raise ValueError(
                f"{name} comes without 'masks': MODEL.MASKS.SOURCE 'truth' needs a data set, and "
                "'file' the name of each image's file."
            )
        masks = inputs["masks"].to(image)
        if masks.shape[1:] != image.shape[1:]:
            raise ValueError(
                f"{name} is {tuple(image.shape[1:])}, but its 'masks' are {tuple(masks.shape[1:])}."
            )
        return torch.cat([image, masks])

    @torch.no_grad()
    def __call__(self, image: Tensor, logits: Tensor | None, view_size: tuple[int, int]) -> Tensor:
        """Finds the masks of an image.

        Args:
            image: RGB, 0 to 255, and masks of :meth:`attach`, (3 + M, h, w).
            logits: of each class at each patch, (K, H, W), for sources that want points.
            view_size: (height, width) in pixels that the patches cover, from the image's upper left
                corner.

        Returns:
            Bool (M, h, w).
        """
        points = None
        if self.source.needs_points:
            points = self._points(logits, view_size, tuple(image.shape[1:]))
        masks = self.source(image[:3], image[3:] > 0.5, points)
        return break_masks(masks, self.noise)

    def _points(
        self, logits: Tensor, view_size: tuple[int, int], size: tuple[int, int]
    ) -> np.ndarray:
        """Chooses points in pixels, (P, 2)."""
        scale = np.array(view_size) / np.array(logits.shape[1:])
        # The image may end within the view: only patches whose center it has.
        rows, columns = np.maximum(np.ceil(np.array(size) / scale - 0.5).astype(int), 1)
        probability = logits[:, :rows, :columns].float().softmax(dim=0)
        points = (cluster_points(probability, self.num_points) + 0.5) * scale[::-1]
        return np.minimum(points, np.array(size[::-1]) - 1)
