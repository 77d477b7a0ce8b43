"""ESC-Net as a Detectron2 meta-architecture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils.events import get_event_storage, has_event_storage
from torch import Tensor

from escnet_d2.config import check_at_least
from escnet_d2.layers.class_subsets import restore_classes
from escnet_d2.modeling.class_scores import (
    best_of_owners,
    class_scores,
    merge_entries,
    resize_scores,
)
from escnet_d2.modeling.clip import ClipEncoder
from escnet_d2.modeling.clip.text import Entries
from escnet_d2.modeling.criterion import (
    check_loss_options,
    renumber_target,
    resize_target,
    sem_seg_loss,
)
from escnet_d2.modeling.escnet import ESCNetHead, HeadOutput
from escnet_d2.modeling.windows import PatchViews, resize_image
from escnet_d2.structures import ClipFeatures, Vocabulary

from .segmentor import OpenVocabSegmentor


@META_ARCH_REGISTRY.register()
class ESCNet(OpenVocabSegmentor):
    """One-stage open-vocabulary semantic segmentation (arXiv 2411.14723).

    Images and class names -> CLIP -> correlation -> N ESC-Blocks -> decoder -> class logits.
    """

    @configurable
    def __init__(
        self,
        *,
        clip: ClipEncoder,
        sem_seg_head: ESCNetHead,
        loss: str,
        unlabeled: str,
        aux_loss_weight: float,
        **options: object,
    ) -> None:
        """Composes the model.

        Args:
            clip: image and text encoder.
            sem_seg_head: from features to logits.
            loss: "bce" or "ce".
            unlabeled: "negative" or "skip", for "bce".
            aux_loss_weight: weight of the cross-entropy on later class maps over the number of
                classes, as the mean over pixels and classes of "bce" is; 0 leaves it out.
            options: of :class:`OpenVocabSegmentor`, but for the statistics of pixels.

        Raises:
            ValueError: options out of range; the message names the key.
        """
        check_loss_options(loss, unlabeled)
        check_at_least("MODEL.ESCNET.AUX_LOSS_WEIGHT", aux_loss_weight, 0)
        mean, std = clip.pixel_statistics
        super().__init__(pixel_mean=mean, pixel_std=std, **options)
        self.clip = clip
        self.sem_seg_head = sem_seg_head
        self.loss = loss
        self.unlabeled = unlabeled
        self.aux_loss_weight = aux_loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, object]:
        """Builds CLIP, the head and the options."""
        options = super().from_config(cfg)
        clip = ClipEncoder(cfg)
        return {
            **options,
            "clip": clip,
            "sem_seg_head": ESCNetHead(
                cfg,
                clip_dim=clip.embed_dim,
                clip_width=clip.width,
                num_templates=clip.num_templates,
            ),
            "loss": cfg.MODEL.ESCNET.LOSS,
            "unlabeled": _unlabeled_mode(cfg),
            "aux_loss_weight": cfg.MODEL.ESCNET.AUX_LOSS_WEIGHT,
            "views": PatchViews.from_config(cfg, clip.patch_size),
        }

    def predict(
        self, images: Tensor, text_embeddings: Tensor, present: Tensor | None = None
    ) -> HeadOutput:
        """Runs CLIP's image tower and the head.

        Args:
            images: normalized, (B, 3, h, w), sides multiples of the patch size.
            text_embeddings: (K, P, C) of ``clip.encode_text``.
            present: entries that training must not leave out, bool (B, K).
        """
        return self._predict(self.clip.encode_image(images), text_embeddings, present)

    def _predict(
        self, features: ClipFeatures, text_embeddings: Tensor, present: Tensor | None = None
    ) -> HeadOutput:
        return self.sem_seg_head(features, text_embeddings, self.clip.temperature, present)

    def encode(self, image: Tensor) -> ClipFeatures:
        """Encodes one image (3, h, w), seen as a whole at the resolution of training."""
        return self.clip.encode_image(self._squash(self._normalize(image)).unsqueeze(0))

    def inspect(self, inputs: dict) -> HeadOutput:
        """Runs the head on one image, seen as a whole at the resolution of training.

        Args:
            inputs: as one item of a batch, with its ``vocabulary``; the model in eval mode.

        Returns:
            Maps and prompts of B = 1.
        """
        return self._predict(
            self.encode(inputs["image"]), self.clip.encode_text(inputs["vocabulary"].entries)
        )

    def _squash(self, image: Tensor) -> Tensor:
        return resize_image(image, (self.resolution, self.resolution))

    # -- training --

    def _group_losses(
        self, images: list[Tensor], targets: list[Tensor], vocabulary: Vocabulary
    ) -> dict[str, Tensor]:
        present = None
        if 0 < self.sem_seg_head.train_classes < len(vocabulary.entries):
            present = torch.stack([_present_entries(target, vocabulary) for target in targets])
        output = self.predict(
            torch.stack([self._squash(image) for image in images]),
            self.clip.encode_text(vocabulary.entries),
            present,
        )
        _log_foreground(output)
        maps, targets = _class_maps(output, targets, vocabulary)
        logits, *later_maps = maps
        main = [
            self._image_loss(resize_scores(logit.float(), target.shape).unsqueeze(0), target)
            for logit, target in zip(logits, targets)
        ]
        losses = {"loss_sem_seg": torch.stack(main).mean()}
        if self.aux_loss_weight > 0:
            for index, class_map in enumerate(later_maps, start=1):
                aux = [
                    sem_seg_loss(
                        logit.unsqueeze(0), resize_target(target, logit.shape[1:]), loss="ce"
                    )
                    / len(logit)
                    for logit, target in zip(class_map, targets)
                ]
                losses[f"loss_sem_seg_aux{index}"] = self.aux_loss_weight * torch.stack(aux).mean()
        return losses

    def _image_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Computes the loss of one image, so that the mean is that of any split into batches."""
        return sem_seg_loss(logits, target.unsqueeze(0), loss=self.loss, unlabeled=self.unlabeled)

    # -- inference --

    def _group_scores(self, images: list[Tensor], vocabulary: Vocabulary) -> list[Tensor]:
        text = self.encode_text(vocabulary.entries)
        return self.views.scores(images, lambda views: self.score_views(views, text, vocabulary))

    def encode_text(self, entries: Entries) -> Tensor:
        """Embeds vocabulary entries: unit vectors, (K, P, D)."""
        return self.clip.encode_text(entries)

    def score_views(self, views: Tensor, text: Tensor, vocabulary: Vocabulary) -> Tensor:
        """Scores four cells to a patch, (B, classes, 4 H, 4 W)."""
        features = self.clip.encode_image(views)
        # Each image has its own number of classes, which must not depend on its neighbors.
        groups = features.images() if self.sem_seg_head.votes_kept < 1 else [features]
        outputs = [self._predict(group, text) for group in groups]
        number = len(vocabulary.entries)
        logits = [restore_classes(output.logits, output.entries, number) for output in outputs]
        return class_scores(torch.cat(logits), vocabulary, self.loss)


def _log_foreground(output: HeadOutput) -> None:
    """Logs how many of an image's classes have pseudo prompts, block by block, as a share."""
    if not has_event_storage():
        return
    found = [prompts.has_foreground for prompts in output.prompts if prompts is not None]
    # The host waits for a GPU once, not at each number.
    shares = torch.stack(found).float().mean(dim=(1, 2)).tolist() if found else []
    for index, share in enumerate(shares):
        get_event_storage().put_scalar(f"prompted_classes/block{index}", share)


def _unlabeled_mode(cfg: CfgNode) -> str:
    """Returns MODEL.ESCNET.UNLABELLED with "auto" resolved.

    Benchmarks keep what the papers do. In a user's own folder an unlabeled pixel may well show one
    of the classes.
    """
    mode, names = cfg.MODEL.ESCNET.UNLABELLED, cfg.DATASETS.TRAIN
    if mode != "auto":
        return mode
    are_folders = [MetadataCatalog.get(name).get("from_folder", False) for name in names]
    return "skip" if are_folders and all(are_folders) else "negative"


def _class_maps(
    output: HeadOutput, targets: list[Tensor], vocabulary: Vocabulary
) -> tuple[list[Sequence[Tensor]], list[Tensor]]:
    """Returns logits and later class maps of the classes that were computed, and their labels.

    The first class map is CLIP's own correlation, which nothing trains.

    Returns:
        Each of these maps as one (classes, h, w) for each image; labels numbered as they are.
    """
    maps = [output.logits, *output.class_maps[1:]]
    if output.entries.shape[1] == len(vocabulary.entries):
        return [merge_entries(values, vocabulary) for values in maps], targets
    # The loss of these classes alone: resizing all K maps to the image would cost more.
    classes: Sequence[Tensor] = output.entries
    if not vocabulary.is_one_to_one:
        owners = torch.tensor(vocabulary.entry_classes, device=classes.device)[classes]
        classes = [found.unique() for found in owners]
        places = [torch.searchsorted(*pair) for pair in zip(classes, owners)]
        maps = [
            [
                best_of_owners(logit.unsqueeze(0), place, len(found)).squeeze(0)
                for logit, place, found in zip(values, places, classes)
            ]
            for values in maps
        ]
    targets = [
        renumber_target(target, found, vocabulary.num_classes)
        for target, found in zip(targets, classes)
    ]
    return maps, targets


def _present_entries(target: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Tells the entries that have a pixel in a label map, bool (K,)."""
    owners = torch.tensor(vocabulary.entry_classes, device=target.device)
    return torch.isin(owners, target.unique())
