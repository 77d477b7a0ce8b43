"""Masks first, names second: what mask injection is compared with."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor
from torch.nn import functional as F

from escnet_d2.layers import image_text_correlation
from escnet_d2.layers.mask_pooling import inside_means
from escnet_d2.modeling.class_scores import class_scores
from escnet_d2.modeling.masks import MaskFinder
from escnet_d2.modeling.windows import CELLS_PER_PATCH, resize_image
from escnet_d2.structures import Vocabulary

from .zero_shot_clip import ZeroShotCLIP


@META_ARCH_REGISTRY.register()
class TwoStageSAM(ZeroShotCLIP):
    """Hard combination of SAM's masks with CLIP's labels, as in systems like Grounded-SAM.

    Each mask gets the class of CLIP's mean dense features inside it. Where masks overlap, the one
    that is surest of its class wins; cells in no mask keep CLIP's own map. Nothing is trained, and
    images are seen as a whole.
    """

    @configurable
    def __init__(self, *, mask_finder: MaskFinder, **options: object) -> None:
        """Composes the model.

        Args:
            mask_finder: finds the masks of an image, by CLIP's class map where the source wants
                points.
            options: of :class:`ZeroShotCLIP`.
        """
        super().__init__(**options)
        self.mask_finder = mask_finder

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, object]:
        """Builds CLIP, the mask finder and the options."""
        return {**super().from_config(cfg), "mask_finder": MaskFinder.from_config(cfg)}

    def _image(self, inputs: dict) -> Tensor:
        """Returns a normalized image, (3 + M, h, w), with the masks that come with it."""
        return self.mask_finder.attach(super()._image(inputs), inputs)

    def _group_scores(self, images: list[Tensor], vocabulary: Vocabulary) -> list[Tensor]:
        text = self.clip.encode_text(vocabulary.entries)
        return [
            class_scores(self._logits(image, text).unsqueeze(0), vocabulary, "ce")[0]
            for image in images
        ]

    def _logits(self, image: Tensor, text: Tensor) -> Tensor:
        """Labels the masks of one image (3 + M, h, w), (K, 4 H, 4 W)."""
        size = tuple(image.shape[1:])
        view = resize_image(image[:3], self.views.input_size(size)).unsqueeze(0)
        dense = self.clip.encode_image(view).dense
        patches = self._class_logits(dense, text)
        pixels = image[:3] * self.pixel_std + self.pixel_mean
        found = self.mask_finder(torch.cat([pixels, image[3:]]), patches, size)
        own = F.interpolate(patches.unsqueeze(0), scale_factor=CELLS_PER_PATCH, mode="bilinear")[0]
        if not len(found):
            return own
        cells = F.adaptive_avg_pool2d(found.to(dense.dtype), own.shape[1:])
        shares = F.adaptive_avg_pool2d(cells, patches.shape[1:])
        unit = F.normalize(dense, dim=1).movedim(1, -1)
        means, is_there = inside_means(unit, shares)  # (1, M, D)
        labels = self._class_logits(means.movedim(2, 1).unsqueeze(3), text).squeeze(2)  # (K, M)
        sureness = labels.softmax(dim=0).amax(dim=0) * is_there
        strength = (cells > 0.5) * sureness.view(-1, 1, 1)
        best, winner = strength.max(dim=0)
        return torch.where(best > 0, labels[:, winner], own)

    def _class_logits(self, features: Tensor, text: Tensor) -> Tensor:
        """Logits of the classes, (1, D, H, W) to (K, H, W)."""
        return self.clip.temperature * image_text_correlation(features, text).mean(dim=1)[0]
