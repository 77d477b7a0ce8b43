"""SAM-MI as a Detectron2 meta-architecture: CAT-Seg with the context of SAM's masks."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils.events import get_event_storage, has_event_storage
from torch import Tensor
from torch.nn import functional as F

from escnet_d2.config import check_choice
from escnet_d2.modeling.cat_seg import CostAggregator
from escnet_d2.modeling.class_scores import merge_entries
from escnet_d2.modeling.clip.build import baseline_embed_dim
from escnet_d2.modeling.criterion import resize_target, sem_seg_loss
from escnet_d2.modeling.masks import MaskFinder, mask_groups, merge_masks
from escnet_d2.modeling.sam_mi import MaskInjection, PointPrompter
from escnet_d2.modeling.windows import CELLS_PER_PATCH
from escnet_d2.structures import ClipFeatures, Vocabulary
from escnet_d2.weights import checkpoint_method

from .baseline_segmentor import BaselineHead, mean_loss
from .cat_seg import CATSeg, aggregator_options

logger = logging.getLogger(__name__)

AGGREGATIONS = ("shallow", "deep", "none")
# Tensors that CAT-Seg has not.
_ON_TOP_OF_CAT_SEG = ("sem_seg_head.predictor.transformer.injection.", "prompter.")


@META_ARCH_REGISTRY.register()
class SAMMI(CATSeg):
    """Mask injection for open-vocabulary semantic segmentation (SAM-MI, arXiv 2511.20027).

    The correlation tells where SAM should look, SAM finds masks there, and their context is added
    to the correlation: masks guide the answer and never are the answer. Images may come with masks
    as further channels (:meth:`MaskFinder.attach`).
    """

    @configurable
    def __init__(
        self,
        *,
        sem_seg_head: BaselineHead,
        mask_finder: MaskFinder,
        prompter: PointPrompter | None,
        aggregation: str,
        aggregation_threshold: float,
        prompter_loss_weight: float,
        **options: object,
    ) -> None:
        """Composes the model.

        Args:
            sem_seg_head: as CATSeg's, its aggregator with a :class:`MaskInjection`.
            mask_finder: finds the masks of an image.
            prompter: chooses points, for a source that wants them.
            aggregation: MODEL.SAM_MI.AGGREGATION.
            aggregation_threshold: MODEL.SAM_MI.AGGREGATION_THRESHOLD.
            prompter_loss_weight: MODEL.SAM_MI.PROMPTER_LOSS_WEIGHT.
            options: of :class:`CATSeg`.

        Raises:
            ValueError: an unknown option; names the key.
        """
        super().__init__(sem_seg_head=sem_seg_head, **options)
        check_choice("MODEL.SAM_MI.AGGREGATION", aggregation, AGGREGATIONS)
        self.mask_finder = mask_finder
        self.prompter = prompter
        self.aggregation = aggregation
        self.aggregation_threshold = aggregation_threshold
        self.prompter_loss_weight = prompter_loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, object]:
        """Builds CAT-Seg with the injection, the mask finder and the options."""
        finder = MaskFinder.from_config(cfg)
        prompter = None
        if finder.source.needs_points:
            prompter = PointPrompter(baseline_embed_dim(cfg.MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED))
        return {
            **super().from_config(cfg),
            "mask_finder": finder,
            "prompter": prompter,
            "aggregation": cfg.MODEL.SAM_MI.AGGREGATION,
            "aggregation_threshold": cfg.MODEL.SAM_MI.AGGREGATION_THRESHOLD,
            "prompter_loss_weight": cfg.MODEL.SAM_MI.PROMPTER_LOSS_WEIGHT,
        }

    @classmethod
    def _build_aggregator(cls, cfg: CfgNode, num_templates: int) -> CostAggregator:
        head, node = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.SAM_MI
        injection = MaskInjection(
            dim=head.HIDDEN_DIMS,
            decoder_dims=head.DECODER_DIMS,
            num_heads=head.NUM_HEADS,
            low=node.LOW,
            low_at=node.LOW_AT,
            high=node.HIGH,
        )
        return CostAggregator(**aggregator_options(cfg, num_templates), injection=injection)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Loads weights; after CAT-Seg's, mask injection and point prompter are untrained."""
        if checkpoint_method(state_dict) == "CATSeg":
            own = self.state_dict().items()
            untrained = {name: t for name, t in own if name.startswith(_ON_TOP_OF_CAT_SEG)}
            logger.warning("The weights are CAT-Seg's: masks change nothing before training.")
            state_dict = {**untrained, **state_dict}
        return super().load_state_dict(state_dict, *args, **kwargs)

    def _image(self, inputs: dict) -> Tensor:
        """Returns a normalized image, (3 + M, h, w), with the masks that come with it."""
        return self.mask_finder.attach(super()._image(inputs), inputs)

    def _group_losses(
        self, images: list[Tensor], targets: list[Tensor], vocabulary: Vocabulary
    ) -> dict[str, Tensor]:
        vocabulary, targets = self._train_classes(vocabulary, targets)
        text = self.sem_seg_head.encode_text(vocabulary.entries)
        features, skips = self._image_features(self.views.squash([x[:3] for x in images]))
        confidence = self._confidence(features, text)
        masks = self._cell_masks(self._find_masks(images, confidence), features)
        logits = self._decode(features, skips, text, masks)
        loss = mean_loss(logits, targets, vocabulary)
        losses = {"loss_sem_seg": loss + 0.0 * self._idle_weights()}
        if confidence is not None:
            maps = merge_entries(confidence, vocabulary)
            loss = [
                sem_seg_loss(own[None], resize_target(target, own.shape[1:]), loss="ce")
                for own, target in zip(maps, targets)
            ]
            losses["loss_prompter"] = self.prompter_loss_weight * torch.stack(loss).mean()
        if has_event_storage():
            found = sum(len(own) for own in masks) / len(masks)
            get_event_storage().put_scalar("masks_per_image", found)
        return losses

    def _group_scores(self, images: list[Tensor], vocabulary: Vocabulary) -> list[Tensor]:
        text = self.sem_seg_head.encode_text(vocabulary.entries)
        features, skips = self._image_features(self.views.squash([x[:3] for x in images]))
        found = self._find_masks(images, self._confidence(features, text))
        if not self.views.options.sliding_window:
            logits = self._decode(features, skips, text, self._cell_masks(found, features))
            return list(logits.float().sigmoid())
        # SAM sees the image once; windows cut its masks along with the image.
        merged = self._merged(found, features)
        views = [torch.cat([x[:3], own.to(x.dtype)]) for x, own in zip(images, merged)]
        return self.views.scores(views, lambda cut: self._predict_views(cut, text))

    @torch.no_grad()
    def propose(self, inputs: dict) -> tuple[Tensor, Tensor]:
        """Finds the masks of one image, seen as a whole.

        Args:
            inputs: as one item of a batch, with its ``vocabulary``; the model in eval mode.

        Returns:
            Masks as their source gives them, and merged, bool (M, h, w) each.
        """
        images = [self._image(inputs)]
        text = self.sem_seg_head.encode_text(inputs["vocabulary"].entries)
        features, _ = self._image_features(self.views.squash([images[0][:3]]))
        found = self._find_masks(images, self._confidence(features, text))
        return found[0], self._merged(found, features)[0]

    def _predict_views(self, views: Tensor, text: Tensor) -> Tensor:
        """Predicts logits of views with their masks, (n, 3 + M, *resolution)."""
        features, skips = self._image_features(views[:, :3])
        size = _cells(features)
        masks = [F.adaptive_avg_pool2d(own, size) if len(own) else own for own in views[:, 3:]]
        return self._decode(features, skips, text, masks)

    def _decode(
        self, features: ClipFeatures, skips: Sequence[Tensor], text: Tensor, masks: list[Tensor]
    ) -> Tensor:
        """Predicts logits (B, K, 4 H, 4 W) with masks of each image, (M, 4 H, 4 W)."""
        return self.sem_seg_head.predictor.transformer(features.dense, text, skips, masks)

    def _confidence(self, features: ClipFeatures, text: Tensor) -> Tensor | None:
        """Logits of the point prompter, (B, K, H, W), where there is one."""
        if self.prompter is None:
            return None
        temperature = self.sem_seg_head.predictor.clip_model.logit_scale.exp()
        return self.prompter(features.dense, text, temperature)

    def _find_masks(self, images: list[Tensor], confidence: Tensor | None) -> list[Tensor]:
        """Finds the masks of each image, bool (M, h, w)."""
        found = []
        for index, image in enumerate(images):
            pixels = image[:3] * self.pixel_std + self.pixel_mean
            logits = None if confidence is None else confidence[index]
            size = self.views.squashed_size(tuple(image.shape[1:]))
            found.append(self.mask_finder(torch.cat([pixels, image[3:]]), logits, size))
        return found

    def _mask_groups(self, cells: Tensor, features: ClipFeatures, index: int) -> Tensor:
        """Says which masks of an image are parts of one, (M,)."""
        if self.aggregation == "none":
            return torch.arange(len(cells), device=cells.device)
        shallow, deep = features.intermediate[0], features.dense
        own = shallow if self.aggregation == "shallow" else deep
        pooled = F.adaptive_avg_pool2d(own[index], features.dense.shape[2:])
        return mask_groups(cells, pooled, self.aggregation_threshold)

    @torch.no_grad()
    def _cell_masks(self, found: list[Tensor], features: ClipFeatures) -> list[Tensor]:
        """Merges parts, and turns masks of pixels into shares of cells, (M, 4 H, 4 W)."""
        cells = [self._to_cells(masks, features) for masks in found]
        return [
            merge_masks(own, self._mask_groups(own, features, index))
            for index, own in enumerate(cells)
        ]

    @torch.no_grad()
    def _merged(self, found: list[Tensor], features: ClipFeatures) -> list[Tensor]:
        """Merges parts of masks of pixels, bool (M, h, w)."""
        return [
            merge_masks(own, self._mask_groups(self._to_cells(own, features), features, index))
            for index, own in enumerate(found)
        ]

    def _to_cells(self, masks: Tensor, features: ClipFeatures) -> Tensor:
        """Squashes masks as the image, (M, h, w) to (M, 4 H, 4 W)."""
        size = _cells(features)
        if not len(masks):
            return features.dense.new_zeros(0, *size)
        return F.adaptive_avg_pool2d(self.views.squash([masks.to(features.dense.dtype)])[0], size)


def _cells(features: ClipFeatures) -> tuple[int, int]:
    """(4 H, 4 W)."""
    height, width = features.dense.shape[2:]
    return CELLS_PER_PATCH * height, CELLS_PER_PATCH * width
