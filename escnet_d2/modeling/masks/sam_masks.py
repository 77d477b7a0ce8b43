"""Masks of SAM at given points, filtered as its automatic generator does.

Shapes: P points, M masks, h x w pixels of the image.
"""

from __future__ import annotations

import numpy as np
import torch
from segment_anything import SamPredictor
from segment_anything.modeling import Sam
from segment_anything.utils.amg import batched_mask_to_box, calculate_stability_score
from torch import Tensor
from torchvision.ops import batched_nms

# Logits around the threshold between which a stable mask does not change, as in SAM's generator.
_STABILITY_OFFSET = 1.0


class SamMasks:
    """Runs SAM's image encoder once and its decoder for all points; without gradient.

    ``SamAutomaticMaskGenerator`` does so at a grid of points and with three masks each. It belongs
    to no model's parameters, and so to no checkpoint: SAM is never trained here.
    """

    def __init__(
        self,
        sam: Sam,
        *,
        multimask: bool = True,
        iou_threshold: float = 0.88,
        stability_threshold: float = 0.95,
        nms_threshold: float = 0.7,
        points_per_batch: int = 64,
    ) -> None:
        """Sets the filters.

        Args:
            sam: frozen, in eval mode; follows the images to their device.
            multimask: three masks for each point, or the one without ambiguity.
            iou_threshold: masks with a lower expected IoU go; 0 keeps all.
            stability_threshold: likewise, of the IoU of masks at a lower and a higher threshold.
            nms_threshold: IoU of boxes above which the mask with the lower expected IoU goes.
            points_per_batch: points that the decoder sees at a time.
        """
        self._sam = sam
        self._multimask = multimask
        self._iou_threshold = iou_threshold
        self._stability_threshold = stability_threshold
        self._nms_threshold = nms_threshold
        self._points_per_batch = points_per_batch

    @torch.no_grad()
    def __call__(self, image: Tensor, points: np.ndarray) -> Tensor:
        """Finds masks.

        Args:
            image: RGB, 0 to 255, (3, h, w).
            points: (P, 2), (x, y) in pixels; (0, 0) is the upper left corner.

        Returns:
            Bool (M, h, w), those with the highest expected IoU first; M may be 0.
        """
        size = tuple(image.shape[1:])
        if not len(points):
            return torch.zeros(0, *size, dtype=torch.bool, device=image.device)
        predictor = SamPredictor(self._sam.to(image.device))
        pixels = image.round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
        with torch.autocast(image.device.type, enabled=False):
            predictor.set_image(pixels)
            coordinates = predictor.transform.apply_coords(np.asarray(points), size)
            coordinates = torch.as_tensor(coordinates, dtype=torch.float32, device=image.device)
            parts = [
                self._decode(predictor, part) for part in coordinates.split(self._points_per_batch)
            ]
        masks, ious = (torch.cat(column) for column in zip(*parts))
        boxes = batched_mask_to_box(masks).float()
        keep = batched_nms(boxes, ious, torch.zeros_like(ious), self._nms_threshold)
        return masks[keep]

    def _decode(self, predictor: SamPredictor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the masks of some points that pass the filters, and their expected IoU."""
        logits, ious, _ = predictor.predict_torch(
            points.unsqueeze(1),
            torch.ones(len(points), 1, dtype=torch.int, device=points.device),
            multimask_output=self._multimask,
            return_logits=True,
        )
        logits, ious = logits.flatten(0, 1), ious.flatten()
        threshold = self._sam.mask_threshold
        stability = calculate_stability_score(logits, threshold, _STABILITY_OFFSET)
        # As in the generator 0 is no filter: the expected IoU may be negative, and the stability
        # of a mask that is empty at both thresholds is 0 / 0.
        keep = torch.ones_like(ious, dtype=torch.bool)
        if self._iou_threshold > 0:
            keep &= ious > self._iou_threshold
        if self._stability_threshold > 0:
            keep &= stability >= self._stability_threshold
        return logits[keep] > threshold, ious[keep]
